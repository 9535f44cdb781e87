//! A network of the test's own: public addresses that are on no wire, and a name server that says what the test wants.
//! What is started on an island by the thread that entered it lives there too; the machine notices nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Where the name server of an island is.
const NAME_SERVER: &str = "127.0.0.53:53";

type Look = dyn Fn(&str, u32) -> Vec<IpAddr> + Send + Sync;

/// An island that the calling thread is on.
pub struct Island {
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
    _files: TempDir,
}

impl Island {
    /// Puts the calling thread, and whatever it starts from now on, on an island with these addresses. `names` says what
    /// a name resolves to, at its first look-up (0), its second, and so on. Needs root.
    #[track_caller]
    pub fn enter(
        addresses: &[&str],
        names: impl Fn(&str, u32) -> Vec<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of its own, as root");
        let files = TempDir::new().expect("a temporary folder");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        for (name, text) in [
            ("resolv.conf", "nameserver 127.0.0.53\noptions attempts:1 timeout:2\n"),
            ("nsswitch.conf", "hosts: files dns\n"),
            ("hosts", "127.0.0.1 localhost\n"),
        ] {
            cover(&Path::new("/etc").join(name), &files.path().join(name), text);
        }
        ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            ip(&["address", "add", address, "dev", "lo"]);
        }
        let asked = Arc::default();
        name_server(Arc::clone(&asked), Arc::new(names));
        Self { asked, _files: files }
    }

    /// How often a name was looked up.
    pub fn look_ups(&self, name: &str) -> u32 {
        self.asked.lock().expect("no test panics with it").get(name).copied().unwrap_or(0)
    }
}

#[track_caller]
fn cover(file: &Path, with: &Path, text: &str) {
    std::fs::write(with, text).expect("written");
    let none: Option<&str> = None;
    mount(Some(with), file, none, MsFlags::MS_BIND, none)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().expect("ip, of iproute2");
    assert!(done.success(), "ip {arguments:?}");
}

fn name_server(asked: Arc<Mutex<BTreeMap<String, u32>>>, names: Arc<Look>) {
    let socket = UdpSocket::bind(NAME_SERVER).expect("the name server's address");
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if let Some(answer) = answer(&packet[..length], &asked, &*names) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

/// An answer to a query for one name (RFC 1035, 4.1).
fn answer(query: &[u8], asked: &Mutex<BTreeMap<String, u32>>, names: &Look) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let question = query.get(12..at + 4)?;
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let name = labels.join(".");
    let turn = {
        // A look-up asks for A and for AAAA; it is counted by the first.
        let mut asked = asked.lock().ok()?;
        let count = asked.entry(name.clone()).or_default();
        *count += u32::from(kind == 1);
        count.saturating_sub(1)
    };
    let found: Vec<IpAddr> =
        names(&name, turn).into_iter().filter(|ip| kind == if ip.is_ipv4() { 1 } else { 28 }).collect();
    let exists = !names(&name, turn).is_empty();
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x85, if exists { 0x80 } else { 0x83 }, 0, 1]);
    answer.extend(u16::try_from(found.len()).ok()?.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question);
    for ip in found {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0]);
        let bytes = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        answer.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
        answer.extend(bytes);
    }
    Some(answer)
}
