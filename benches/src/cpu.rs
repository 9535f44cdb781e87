//! CPU time of a server with all the processes below it, from `/proc/PID/stat`; see proc_pid_stat(5).
//!
//! A zygote reaps its run processes, and with that their time becomes its own children's time. So it is enough to look at
//! the server, its children and its grandchildren; what lives below those is counted when it has been reaped.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::processors::in_time;

/// A process, which its number alone does not identify for ever.
type Identity = (u32, u64);

/// The time of a process tree, also of those that have ended since the last look.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    root: u32,
    last: HashMap<Identity, u64>,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Clock ticks, its own and its reaped children's.
    ticks: u64,
    started: u64,
}

impl Tree {
    /// The tree below process `root`, and `root` itself.
    pub(crate) fn of(root: u32) -> Tree {
        Tree { root, last: HashMap::new() }
    }

    /// Looks at every process again: time of all of them until now. A process that ended since the last look counts with
    /// what it had then.
    pub(crate) fn look(&mut self) -> Duration {
        let all = processes();
        let children = |of: u32| all.iter().filter(move |(_, stat)| stat.parent == of).map(|(pid, _)| *pid);
        let mut chosen = vec![self.root];
        for child in children(self.root) {
            chosen.push(child);
            chosen.extend(children(child));
        }
        for pid in chosen {
            if let Some(stat) = all.get(&pid) {
                self.last.insert((pid, stat.started), stat.ticks);
            }
        }
        in_time(self.last.values().sum())
    }
}

/// CPU time of this process.
pub(crate) fn own() -> Duration {
    in_time(stat("self").map_or(0, |stat| stat.ticks))
}

fn processes() -> HashMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, stat(&pid.to_string())?)))
        .collect()
}

fn stat(process: &str) -> Option<Stat> {
    read(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The name in the second field may hold anything, so what counts begins behind its last parenthesis.
fn read(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)? + field(16)? + field(17)?;
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, ticks, started: field(22)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_with_the_children_that_it_reaped() {
        let text = "7 (a) b) S 3 7 7 0 -1 4194560 1 0 0 0 30 12 5 1 20 0 5 0 100 1000000 321";
        assert_eq!(read(text), Some(Stat { parent: 3, ticks: 48, started: 100 }));
        assert_eq!(read("7 (a) S 1"), None);
    }

    #[test]
    fn time_does_not_run_backwards_when_a_process_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut tree = Tree::of(std::process::id());
        let before = tree.look();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.look() >= before);
    }
}
