//! What the kernel says about a process, read from /proc. Every question has an answer for a process that is gone.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// The number of the device that holds nothing and takes everything: major 1, minor 3.
const NULL_DEVICE: u64 = nix::libc::makedev(1, 3);

/// Whether these tests run as root: only then may they read the descriptors, the namespaces and the root folder of a
/// process that made itself non-dumpable.
pub fn tests_run_as_root() -> bool {
    geteuid().is_root()
}

/// A process, named by its number and its time of birth, so that a number used again is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Its number in the tests' own PID namespace.
    pub pid: i32,
    born: u64,
}

impl Process {
    /// The process that has this number now.
    pub fn now(pid: i32) -> Option<Self> {
        Some(Self { pid, born: Stat::read(pid)?.born })
    }

    fn stat(&self) -> Option<Stat> {
        Stat::read(self.pid).filter(|stat| stat.born == self.born)
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }

    /// Whether it still runs. A zombie does not.
    pub fn lives(&self) -> bool {
        self.stat().is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether it is dead and its parent has not taken notice.
    pub fn is_zombie(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state == 'Z')
    }

    /// Whether it is on a CPU, or ready to be, at this moment.
    pub fn is_running(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state == 'R')
    }

    /// Its name, at most 15 characters; empty when it is gone.
    pub fn name(&self) -> String {
        self.stat().map(|stat| stat.name).unwrap_or_default()
    }

    /// Its parent.
    pub fn parent(&self) -> Option<Process> {
        Process::now(self.stat()?.parent)
    }

    /// CPU time that it has used, in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        self.stat().map(|stat| stat.cpu).unwrap_or(0)
    }

    /// All that descend from it, zombies too.
    pub fn descendants(&self) -> Vec<Process> {
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(stat) = Stat::read(pid) {
                children.entry(stat.parent).or_default().push(Process { pid, born: stat.born });
            }
        }
        let mut found = Vec::new();
        let mut next = vec![self.pid];
        while let Some(pid) = next.pop() {
            for child in children.remove(&pid).unwrap_or_default() {
                next.push(child.pid);
                found.push(child);
            }
        }
        found
    }

    /// Living processes of the service that no supervisor is above: what one left behind.
    pub fn strays() -> Vec<Process> {
        let mut stats = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
                && let Some(stat) = Stat::read(pid)
            {
                stats.insert(pid, stat);
            }
        }
        let below_a_supervisor = |mut pid: i32| {
            while let Some(stat) = stats.get(&pid) {
                if stat.name.starts_with("void-supervisor") {
                    return true;
                }
                pid = stat.parent;
            }
            false
        };
        let ours = ["void-run", "void-zygote", "void-spawner", "void-compiler"];
        stats
            .iter()
            .filter(|(_, stat)| ours.contains(&stat.name.as_str()) && !matches!(stat.state, 'Z' | 'X'))
            .filter(|(pid, _)| !below_a_supervisor(**pid))
            .map(|(pid, stat)| Process { pid: *pid, born: stat.born })
            .collect()
    }

    /// The living descendants of that name.
    pub fn descendants_named(&self, name: &str) -> Vec<Process> {
        self.descendants().into_iter().filter(|process| process.lives() && process.name() == name).collect()
    }

    /// The numbers of its threads.
    pub fn threads(&self) -> Vec<i32> {
        let entries = fs::read_dir(self.path("task")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The fields of its `status`, or of one of its threads.
    pub fn status(&self, thread: Option<i32>) -> BTreeMap<String, String> {
        let file = thread.map_or("status".to_owned(), |thread| format!("task/{thread}/status"));
        let text = fs::read_to_string(self.path(&file)).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// A size of its `status` (`VmRSS`, `VmHWM`), in KiB.
    pub fn kib(&self, field: &str) -> u64 {
        let status = self.status(None);
        status.get(field).and_then(|v| v.split(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// The identity of one of its namespaces, as `user:[4026531837]`.
    pub fn namespace(&self, kind: &str) -> Option<String> {
        Some(fs::read_link(self.path("ns").join(kind)).ok()?.to_string_lossy().into_owned())
    }

    /// What its open descriptors are, by number: `socket:[1]`, `/dev/null` (under whatever path it sees that device),
    /// `anon_inode:…`.
    pub fn descriptors(&self) -> Option<BTreeMap<i32, String>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.path("fd")).ok()?.flatten() {
            // One may be closed between the two looks.
            if let (Some(number), Ok(to)) =
                (entry.file_name().to_str().and_then(|n| n.parse().ok()), fs::read_link(entry.path()))
            {
                let null = fs::metadata(entry.path()).is_ok_and(|file| file.rdev() == NULL_DEVICE);
                let what = if null { "/dev/null".into() } else { to.to_string_lossy() };
                found.insert(number, what.into_owned());
            }
        }
        Some(found)
    }

    /// The names in its root folder.
    pub fn root_listing(&self) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.path("root")).ok()?;
        Some(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Its limits: name to (soft, hard), `None` for unlimited.
    pub fn limits(&self) -> BTreeMap<String, (Option<u64>, Option<u64>)> {
        let text = fs::read_to_string(self.path("limits")).unwrap_or_default();
        let mut limits = BTreeMap::new();
        for line in text.lines().skip(1).filter(|line| line.len() > 26) {
            let (name, values) = line.split_at(26);
            let mut values = values.split_whitespace().map(|value| value.parse().ok());
            if let (Some(soft), Some(hard)) = (values.next(), values.next()) {
                limits.insert(name.trim().to_owned(), (soft, hard));
            }
        }
        limits
    }

    /// Any file of its folder in /proc, as bytes.
    pub fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.path(file)).ok()
    }

    /// Sends it a signal; a process that is gone is none to complain about.
    pub fn signal(&self, signal: Signal) {
        if self.stat().is_some() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it as nobody can refuse.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }
}

/// The fields of `/proc/PID/stat` that are asked for.
struct Stat {
    name: String,
    state: char,
    parent: i32,
    cpu: u64,
    born: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        // The name may hold anything, parentheses too: it ends at the last one.
        let (head, rest) = text.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            name,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu: number(11)? + number(12)?,
            born: number(19)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Process;

    #[test]
    fn a_child_is_seen_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::now(child.id() as i32).unwrap();
        let own = Process::now(std::process::id() as i32).unwrap();
        assert!(process.lives() && own.descendants().contains(&process));
        crate::eventually("it has its own name", std::time::Duration::from_secs(5), || {
            process.name() == "sleep"
        });
        assert_eq!(process.parent(), Some(own));
        assert_eq!(process.threads(), [process.pid]);
        assert!(process.limits().contains_key("Max open files") && process.kib("VmRSS") > 0);
        assert_eq!(process.namespace("net"), own.namespace("net"));
        process.kill();
        child.wait().unwrap();
        assert!(!process.lives() && !own.descendants().contains(&process));
    }
}
