//! What `/proc` says of a process: CPU time and memory; and on which CPUs it runs.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};

/// How finely the kernel counts CPU time for user space.
const TICKS_PER_SECOND: f64 = 100.0;
const MIB: f64 = 1024.0;

/// CPU seconds of a process and of those that it forked, ended ones included.
pub(crate) fn cpu_seconds(pid: i32) -> anyhow::Result<f64> {
    let mut ticks = 0.0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process may end while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{other}/stat")) else { continue };
        let Some(stat) = Stat::parse(&stat) else { continue };
        if other == pid {
            ticks += stat.own + stat.of_ended_children;
        } else if stat.parent == pid {
            ticks += stat.own;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// How long this thread has been on a CPU: unlike the time on the wall it does not count who else was.
pub(crate) fn thread_time() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("the kernel keeps no schedstat")?;
    let nanos = text.split_ascii_whitespace().next().context("schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

struct Stat {
    parent: i32,
    own: f64,
    of_ended_children: f64,
}

impl Stat {
    /// Fields are counted after the command's name, which may itself hold blanks and brackets.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            of_ended_children: ticks(13)? + ticks(14)?,
        })
    }
}

/// The CPUs that this process may run on, as in `0-3,7`.
pub(crate) fn cpus() -> anyhow::Result<Vec<usize>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).context("no list of CPUs")?;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// CPUs as `taskset` takes them.
pub(crate) fn cpu_list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Keeps all threads of a process to some CPUs.
pub(crate) fn keep_to(pid: i32, cpus: &[usize]) -> anyhow::Result<()> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", &cpu_list(cpus), &pid.to_string()]);
    let output = command.output().context("cannot run taskset (package util-linux)")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The most memory that a process ever held, in MiB.
pub(crate) fn peak_mib(pid: i32) -> anyhow::Result<f64> {
    status(pid, "VmHWM:")
}

/// The memory that a process holds, in MiB.
pub(crate) fn resident_mib(pid: i32) -> anyhow::Result<f64> {
    status(pid, "VmRSS:")
}

fn status(pid: i32, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kib: f64 = value.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / MIB)
}
