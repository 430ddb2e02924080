//! The Debian package: installed, upgraded, removed and purged in a root of its own, with and without systemd's tools.
//!
//! The root is this machine's own, read only, with a layer in memory over it that takes every change. That takes root's
//! rights; where they are missing the package is only made and looked into.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::{Cluster, Scratch};

/// Mounts the layer in a mount namespace of this command alone, and runs the rest of the arguments inside.
const INSIDE: &str = r#"
set -e
layer=$1; shift
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
for shared in dev proc tmp; do mount --rbind "/$shared" "$layer/root/$shared"; done
exec chroot "$layer/root" "$@"
"#;

/// What stands in for a running systemd: it notes what it is told.
const STUB: &str = "#!/bin/sh\necho \"$(basename \"$0\") $*\" >>/told\n";

/// A root that goes with the test.
struct Root {
    scratch: Scratch,
}

impl Root {
    fn new() -> Self {
        let scratch = Scratch::in_memory();
        for dir in ["upper", "work", "root"] {
            fs::create_dir(scratch.join(dir)).unwrap();
        }
        Self { scratch }
    }

    /// Runs a command inside.
    fn run(&self, arguments: &[&str]) -> Output {
        let layer = self.scratch.path().to_str().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", INSIDE, "sh", layer]).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command.output().unwrap()
    }

    /// Runs a command that must succeed; gives all that it said.
    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
        said
    }

    /// Installs a package's file.
    #[track_caller]
    fn install(&self, package: &Path) -> String {
        // As the system's own configuration may leave out documentation, that must not hide whether it is there.
        self.succeeds(&["dpkg", "--force-confold", "--path-include=/usr/share/doc/*", "--install", path(package)])
    }

    /// A changed or new file inside.
    fn file(&self, inside: &str) -> PathBuf {
        self.scratch.join("upper").join(inside.trim_start_matches('/'))
    }

    fn write(&self, inside: &str, content: &str, mode: u32) {
        let file = self.file(inside);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn owner_and_mode(&self, inside: &str) -> String {
        self.succeeds(&["stat", "--format=%U:%G %a", inside]).trim().to_owned()
    }

    fn has(&self, inside: &str) -> bool {
        self.run(&["test", "-e", inside]).status.success()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Makes the package of the program under test, as some version.
fn package(dir: &Path, version: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/package"));
    command.args(["--binary", env!("CARGO_BIN_EXE_churnd"), "--output", path(dir), "--deb-version", version]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let made = String::from_utf8_lossy(&output.stdout).lines().last().unwrap().to_owned();
    assert!(made.ends_with(".deb") && made.contains(version), "{made}");
    PathBuf::from(made)
}

/// Whether roots can be made here; says loudly why not.
fn can_make_roots() -> bool {
    let probe = || Root::new().run(&["true"]);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: installing the package takes root");
        return false;
    }
    let output = probe();
    if !output.status.success() {
        eprintln!("SKIPPED: this machine mounts no layer over its root: {}", said(&output));
    }
    output.status.success()
}

#[tokio::test]
async fn the_package_is_sound_and_goes_from_its_installation_to_its_purge() {
    let packages = Scratch::new();
    let version = format!("{}-1", env!("CARGO_PKG_VERSION"));
    let [old, new] = ["0.0.9-1", &version].map(|version| package(packages.path(), version));
    it_holds_what_it_should_and_nothing_is_wrong_with_it(&new, &version);
    if !can_make_roots() {
        return;
    }
    life(&Root::new(), &old, &new);
    it_needs_no_systemd(&new);
    an_upgrade_restarts_the_service_only_if_the_new_program_can_start(&old, &new).await;
}

fn it_holds_what_it_should_and_nothing_is_wrong_with_it(package: &Path, version: &str) {
    let changelog = include_str!("../../packaging/debian/changelog");
    assert!(changelog.starts_with(&format!("churnd ({version}) ")), "the changelog begins with this version");
    let held = said(&Command::new("dpkg-deb").args(["--contents", path(package)]).output().unwrap());
    for (mode, file) in [
        ("-rwxr-xr-x", "usr/bin/churnd"),
        ("-rw-r-----", "etc/churnd/churnd.toml"),
        ("-rw-r--r--", "usr/lib/systemd/system/churnd.service"),
        ("-rw-r--r--", "usr/lib/systemd/system/churnd-migrate.service"),
        ("-rw-r--r--", "usr/lib/systemd/system/churnd.socket"),
        ("-rw-r--r--", "usr/lib/sysusers.d/churnd.conf"),
        ("-rw-r--r--", "usr/share/doc/churnd/copyright"),
        ("-rw-r--r--", "usr/share/doc/churnd/LICENSE-APACHE"),
        ("-rw-r--r--", "usr/share/doc/churnd/LICENSE-MIT"),
        ("-rw-r--r--", "usr/share/doc/churnd/README.md"),
        ("-rw-r--r--", "usr/share/doc/churnd/churnd.toml"),
        ("-rw-r--r--", "usr/share/doc/churnd/examples/50-local-peers.conf"),
    ] {
        let is_it =
            |line: &str| line.starts_with(mode) && line.contains(" 0/0 ") && line.ends_with(&format!(" ./{file}"));
        assert!(held.lines().any(is_it), "{mode} {file} is missing in\n{held}");
    }
    // What the units name is in the package.
    for named in ["/usr/bin/churnd", "/usr/share/doc/churnd/README.md"] {
        assert!(held.contains(&format!(" .{named}\n")), "{named}");
    }
    if Command::new("lintian").arg("--version").output().is_err() {
        eprintln!("SKIPPED: lintian is missing");
        return;
    }
    let judged = Command::new("lintian").args(["--fail-on", "error", path(package)]).output().unwrap();
    assert!(judged.status.success(), "{}", said(&judged));
}

fn it_needs_no_systemd(package: &Path) {
    let root = Root::new();
    root.succeeds(&[
        "rm",
        "-f",
        "/usr/bin/systemd-sysusers",
        "/bin/systemd-sysusers",
        "/usr/bin/systemctl",
        "/bin/systemctl",
    ]);
    root.install(package);
    assert_eq!(root.owner_and_mode("/etc/churnd/churnd.toml"), "root:churnd 640");
    let user = root.succeeds(&["getent", "passwd", "churnd"]);
    assert!(user.contains(":/var/lib/churnd:/"), "{user}");
    root.succeeds(&["dpkg", "--purge", "churnd"]);
    assert!(!root.has("/etc/churnd"));
}

/// From the first installation to the purge.
fn life(root: &Root, old: &Path, new: &Path) {
    let told = root.install(old);
    assert!(told.contains("README.md says what comes next"), "{told}");
    assert_eq!(root.owner_and_mode("/etc/churnd"), "root:churnd 750");
    assert_eq!(root.owner_and_mode("/etc/churnd/churnd.toml"), "root:churnd 640");
    let user = root.succeeds(&["getent", "passwd", "churnd"]);
    assert!(user.contains(":/var/lib/churnd:/") && user.trim_end().ends_with("/nologin"), "{user}");
    for link in ["multi-user.target.wants/churnd.service", "sockets.target.wants/churnd.socket"] {
        assert!(root.run(&["test", "-L", &format!("/etc/systemd/system/{link}")]).status.success(), "{link}");
    }
    assert_eq!(root.succeeds(&["churnd", "--version"]).trim(), concat!("churnd ", env!("CARGO_PKG_VERSION")));
    let as_churnd = |arguments: &[&str]| {
        let mut all = vec!["setpriv", "--reuid=churnd", "--regid=churnd", "--clear-groups", "churnd"];
        all.extend(arguments);
        root.run(&all)
    };
    assert!(said(&as_churnd(&["check"])).contains("the configuration can be used"));

    // What an administrator did stays over an upgrade, whatever it is.
    root.write("/etc/churnd/churnd.toml", "[log]\nlevel = \"debug\"\n", 0o600);
    root.write("/etc/churnd/acme.toml", "# mine", 0o640);
    root.succeeds(&["mkdir", "-p", "/var/lib/churnd"]);
    root.write("/var/lib/churnd/kept", "data", 0o600);
    root.succeeds(&["systemctl", "disable", "churnd.service"]);
    root.install(new);
    let shown = root.succeeds(&["dpkg-query", "--show", "--showformat=${Version} ${Status}", "churnd"]);
    assert_eq!(shown, concat!(env!("CARGO_PKG_VERSION"), "-1 install ok installed"));
    assert_eq!(root.succeeds(&["cat", "/etc/churnd/churnd.toml"]), "[log]\nlevel = \"debug\"\n");
    assert_eq!(root.owner_and_mode("/etc/churnd/churnd.toml"), "root:churnd 600", "nothing is opened");
    assert_eq!(root.succeeds(&["cat", "/var/lib/churnd/kept"]), "data");
    assert!(!root.has("/etc/systemd/system/multi-user.target.wants/churnd.service"), "it was disabled");
    let found = root.run(&["churnd", "check"]);
    assert!(found.status.success(), "{}", said(&found));

    root.succeeds(&["dpkg", "--remove", "churnd"]);
    assert!(!root.has("/usr/bin/churnd"));
    assert!(root.has("/etc/churnd/churnd.toml") && root.has("/var/lib/churnd/kept"), "only a purge forgets");
    root.succeeds(&["dpkg", "--purge", "churnd"]);
    for gone in ["/etc/churnd", "/var/lib/churnd", "/usr/lib/systemd/system/churnd.service", "/usr/share/doc/churnd"] {
        assert!(!root.has(gone), "{gone} is left");
    }
    let left = root.succeeds(&["find", "/etc/systemd", "/var/lib/systemd", "-name", "churnd*"]);
    assert_eq!(left, "");
}

async fn an_upgrade_restarts_the_service_only_if_the_new_program_can_start(old: &Path, new: &Path) {
    let cluster = Cluster::start().await;
    let root = Root::new();
    root.install(old);
    for name in ["systemctl", "deb-systemd-invoke"] {
        root.write(&format!("/usr/bin/{name}"), STUB, 0o755);
    }
    root.succeeds(&["mkdir", "-p", "/run/systemd/system", "/run/credentials/churnd.service"]);
    root.write("/run/credentials/churnd.service/postgres.url", &cluster.postgres_url(), 0o400);
    let told = |root: &Root| fs::read_to_string(root.file("/told")).unwrap_or_default();
    let said = root.install(new);
    assert!(told(&root).contains("deb-systemd-invoke restart churnd.service\n"), "{said}{}", told(&root));
    assert!(!told(&root).contains("churnd.socket"), "the socket stays open: {}", told(&root));

    // A database that lacks the newest tables: what runs goes on.
    let sql = cluster.sql().await;
    sql.execute("DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)", &[])
        .await
        .unwrap();
    root.write("/told", "", 0o644);
    let said = root.install(new);
    assert!(!told(&root).contains("restart"), "{}", told(&root));
    assert!(said.contains("goes on running") && said.contains("run `churnd migrate`"), "{said}");

    root.succeeds(&["dpkg", "--remove", "churnd"]);
    assert!(told(&root).contains("deb-systemd-invoke stop churnd.socket churnd.service\n"), "{}", told(&root));
}
