//! The systemd units: they say what they mean, expose little, and allow what churnd really does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Cluster, Feed, Observer, Scratch, daemon::Daemon, eventually, http};

const SOON: Duration = Duration::from_secs(60);
/// The oldest systemd whose offline marks can be trusted.
const OLDEST: u32 = 252;
const UNITS: [&str; 3] = ["churnd.service", "churnd.socket", "churnd-migrate.service"];

/// A copy of the units in which churnd is where it is built.
fn units() -> Scratch {
    let scratch = Scratch::new();
    for unit in UNITS {
        scratch.write(unit, read(unit).replace("/usr/bin/churnd", env!("CARGO_BIN_EXE_churnd")));
    }
    scratch
}

fn systemd(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(systemd(name)).unwrap()
}

/// Runs one of systemd's tools, which scripts/tools installs.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).env("SYSTEMD_PAGER", "").output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/tools --clients installs it"))
}

/// What a tool printed, and what it complained of.
fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Exposure as systemd reckons it, times ten: refused above `most`.
fn exposure(unit: &Path, most: u32) -> Result<String, String> {
    let threshold = format!("--threshold={most}");
    let output = run("systemd-analyze", &["security", "--offline=true", &threshold, unit.to_str().unwrap()]);
    let (out, err) = said(&output);
    let mark = out.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default().to_owned();
    assert!(!mark.is_empty(), "{out}{err}");
    if output.status.success() { Ok(mark) } else { Err(mark) }
}

#[test]
fn the_units_can_be_used_without_a_word() {
    let (version, _) = said(&run("systemd-analyze", &["--version"]));
    let version = version.split_whitespace().nth(1).and_then(|text| text.parse::<u32>().ok()).unwrap();
    assert!(version >= OLDEST, "systemd {version} is too old to judge: {OLDEST} is needed");
    let units = units();
    let verify = |name: &str| run("systemd-analyze", &["verify", units.join(name).to_str().unwrap()]);
    for name in UNITS {
        let output = verify(name);
        assert_eq!((output.status.code(), said(&output)), (Some(0), (String::new(), String::new())), "{name}");
    }
    let drop_in = units.join("churnd-migrate.service.d");
    fs::create_dir(&drop_in).unwrap();
    let own_roles = read("examples/50-own-roles.conf").replace("/usr/bin/churnd", env!("CARGO_BIN_EXE_churnd"));
    fs::write(drop_in.join("50-own-roles.conf"), own_roles).unwrap();
    assert_eq!(said(&verify("churnd-migrate.service")), (String::new(), String::new()), "with roles of its own");
    // The exit code alone does not tell.
    units.write("churnd.service", read("churnd.service").replace("ProtectClock=", "ProtectClocks="));
    let (_, complaint) = said(&verify("churnd.service"));
    assert!(complaint.contains("ProtectClocks"), "a misspelt directive is not noticed: {complaint}");
}

#[test]
fn the_service_is_exposed_to_little() {
    let units = units();
    let service = units.join("churnd.service");
    println!("{}", exposure(&service, 11).unwrap());
    println!("{}", exposure(&units.join("churnd-migrate.service"), 11).unwrap());
    let drop_in = units.join("churnd.service.d");
    fs::create_dir(&drop_in).unwrap();
    fs::copy(systemd("examples/50-local-peers.conf"), drop_in.join("50-local-peers.conf")).unwrap();
    println!("with local peers only: {}", exposure(&service, 9).unwrap());
    fs::remove_dir_all(&drop_in).unwrap();
    units.write("churnd.service", read("churnd.service").replace("CapabilityBoundingSet=\n", ""));
    exposure(&service, 11).expect_err("a missing line is noticed");
}

#[test]
fn the_user_is_made_as_declared() {
    let (out, err) = said(&run("systemd-sysusers", &["--dry-run", systemd("churnd.sysusers").to_str().unwrap()]));
    let there = nix::unistd::User::from_name("churnd").unwrap().is_some();
    assert!(there || (out.clone() + &err).contains("churnd"), "{out}{err}");
    let misspelt = Scratch::new().join("none.conf");
    assert!(!run("systemd-sysusers", &["--dry-run", misspelt.to_str().unwrap()]).status.success());
    for line in ["User=churnd", "Group=churnd"] {
        assert!(read("churnd.service").lines().any(|other| other == line), "{line}");
    }
}

// -- what churnd does against what it may do ----------------------------------------------------------------------------

/// The system calls that the unit's filters let through.
fn allowed() -> BTreeSet<String> {
    let (list, _) = said(&run("systemd-analyze", &["syscall-filter"]));
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut group = "";
    for line in list.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(member) => groups.entry(group).or_default().push(member.trim()),
            None => group = line.trim(),
        }
    }
    let members = |name: &str| -> BTreeSet<String> {
        let (mut found, mut open) = (BTreeSet::new(), vec![name]);
        while let Some(name) = open.pop() {
            match groups.get(name) {
                Some(members) => open.extend(members),
                None => drop(found.insert(name.to_owned())),
            }
        }
        found
    };
    // What starts and ends a program is always permitted.
    let mut allowed = members("@default");
    let unit = read("churnd.service");
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (forbids, names) = filter.strip_prefix('~').map_or((false, filter), |names| (true, names));
        for name in names.split(' ') {
            let members = members(name);
            assert!(members.len() > 1 || !name.starts_with('@'), "systemd knows no {name}");
            if forbids {
                allowed.retain(|call| !members.contains(call));
            } else {
                allowed.extend(members);
            }
        }
    }
    assert!(allowed.contains("epoll_wait") && !allowed.contains("mount") && !allowed.contains("setrlimit"));
    allowed
}

/// Calls in a trace: name and what follows it.
fn calls(trace: &str) -> impl Iterator<Item = (&str, &str)> {
    trace.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ')?;
        let (name, arguments) = call.trim_start().split_once('(')?;
        name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_').then_some((name, arguments))
    })
}

/// A whole life of a daemon: start, events, HTTP, reload, stop, each of its system calls noted.
async fn life(cluster: &Cluster, trace: &Path) {
    let churnd = env!("CARGO_BIN_EXE_churnd");
    let arguments = ["-D", "-f", "-qq", "-s", "0", "-o", trace.to_str().unwrap(), churnd, "run"];
    let mut daemon = Daemon::builder_of("strace", &arguments, cluster, "traced")
        .setting("CHURND__NATS__URL", cluster.nats.url().replace("127.0.0.1", "localhost"))
        .start()
        .await;
    let (feed, observer) = (Feed::open(cluster).await, Observer::of(cluster).await);
    for number in 0..20 {
        feed.event(&format!("c{number}"), &json!({"event": "payment_failed"})).await;
    }
    observer.caught_up(SOON).await;
    eventually(SOON, async || match observer.count("CHURN_ALERTS").await? {
        20 => Ok(()),
        other => Err(format!("{other} alerts")),
    })
    .await;
    for path in ["/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(http::get(daemon.address(), path).await.unwrap().status, 200, "{path}");
    }
    daemon.signal(Signal::SIGHUP);
    eventually(SOON, async || daemon.log().find("reloaded").ok_or("not reloaded yet")).await;
    assert_eq!(daemon.stop().await.code(), Some(0), "{}", daemon.log().text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unit_allows_what_churnd_does() {
    let cluster = Cluster::start().await;
    let trace = cluster.dir().join("trace");
    life(&cluster, &trace).await;
    // The tracer is a process of its own and writes the end of its file when it ends.
    let text = eventually(SOON, async || {
        let text = fs::read_to_string(&trace).map_err(|error| error.to_string())?;
        if text.contains("exit_group(") { Ok(text) } else { Err("the trace has no end yet".to_owned()) }
    })
    .await;
    let used: BTreeSet<&str> = calls(&text).map(|(name, _)| name).collect();
    assert!(used.contains("epoll_wait") && used.contains("accept4") && used.len() > 30, "no whole life: {used:?}");
    let allowed = allowed();
    let refused: Vec<&&str> = used.iter().filter(|call| !allowed.contains(**call)).collect();
    println!("{} calls of {} kinds, of which the unit refuses {refused:?}", calls(&text).count(), used.len());
    assert!(refused.is_empty(), "the unit's filter refuses {refused:?}");

    let families: BTreeSet<&str> =
        calls(&text).filter(|(name, _)| *name == "socket").filter_map(|(_, rest)| rest.split(',').next()).collect();
    let unit = read("churnd.service");
    let permitted = unit.lines().find_map(|line| line.strip_prefix("RestrictAddressFamilies=")).unwrap();
    // The C library asks the kernel for our addresses to put a name's in order, and does without an answer.
    let foreign = families.iter().filter(|family| **family != "AF_NETLINK" && !permitted.contains(**family));
    assert_eq!(foreign.count(), 0, "{families:?}");
    let writable = |rest: &str| rest.contains("PROT_WRITE|PROT_EXEC");
    assert!(
        !calls(&text).any(|(name, rest)| name.starts_with("m") && writable(rest)),
        "MemoryDenyWriteExecute refuses it"
    );
}
