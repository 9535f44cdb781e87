//! `cargo xtask boot-test`: installs the Debian package on a real Debian with its real kernel and systemd, in a machine
//! that qemu emulates, and checks there what an operator does. What is checked stands in `deploy/boot-test/guest.sh`.
//!
//! The machines' disks are made once and kept outside the tree; a run writes nothing to them.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{all, root, stage};
use crate::deb;
use crate::install::{self, mode, write};

/// What the machine needs beside the smallest Debian.
const PACKAGES: &str = "systemd-sysv,dbus,udev,kmod,procps,curl,ca-certificates,init-system-helpers,apparmor,initramfs-tools,linux-image-cloud-amd64";
/// Raised whenever a disk that was made before must not be used any more.
const GENERATION: u32 = 1;
/// The longest that one machine may run, seconds: an emulated processor is some twenty times slower than a real one.
const PATIENCE: &str = "3600";
/// A module whose `spin` runs for ever.
const SPIN: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x08\x01\x04spin\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

/// Tests the package on each of these releases of Debian.
pub(crate) fn run(releases: &[String], mirror: Option<&str>, package: Option<&Path>) -> Result<(), String> {
    for tool in ["debootstrap", "qemu-system-x86_64", "mke2fs", "dpkg-deb"] {
        is_there(tool)?;
    }
    let package = deb::given_or_made(package)?;
    all(releases.iter().map(|release| test(release, mirror, &package)).collect())
}

fn is_there(tool: &str) -> Result<(), String> {
    let found =
        Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin:/sbin command -v \"$0\"", tool]).output();
    if found.is_ok_and(|found| found.status.success()) {
        return Ok(());
    }
    Err(format!("{tool} is missing: apt-get install debootstrap qemu-system-x86 e2fsprogs dpkg"))
}

fn test(release: &str, mirror: Option<&str>, package: &Path) -> Result<(), String> {
    let machine = Machine::of(release)?;
    if !machine.disk().is_file() {
        machine.make(mirror)?;
    }
    machine.check(package)
}

/// A release's disk, kernel and what is made beside them.
struct Machine {
    release: String,
    folder: PathBuf,
}

impl Machine {
    fn of(release: &str) -> Result<Machine, String> {
        if release.is_empty() || !release.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(format!("{release:?} is no release of Debian: give its code name, such as trixie"));
        }
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .ok_or("neither XDG_CACHE_HOME nor HOME is set: set one, for the disks to be kept")?;
        let folder = cache.join(format!("void-wasm/boot-test/{release}-{GENERATION}"));
        fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: cannot be made: {error}", folder.display()))?;
        Ok(Machine { release: release.to_owned(), folder })
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk.ext4")
    }

    /// Makes the disk. Needs root and the mirror.
    fn make(&self, mirror: Option<&str>) -> Result<(), String> {
        let tree = self.folder.join("tree");
        remove(&tree)?;
        let mut bootstrap = Command::new("debootstrap");
        bootstrap
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), &self.release])
            .arg(&tree)
            .args(mirror);
        bootstrap.stdout(Stdio::null());
        stage(&format!("a {} from Debian's packages", self.release), with_sbin(bootstrap))?;

        let etc = tree.join("etc");
        write(&etc.join("fstab"), "/dev/vda / ext4 defaults 0 1\n/dev/vdb /payload ext4 ro 0 2\n")?;
        write(&etc.join("hostname"), "boot-test\n")?;
        write(&etc.join("initramfs-tools/conf.d/boot-test"), "MODULES=list\n")?;
        write(&etc.join("initramfs-tools/modules"), "virtio_pci\nvirtio_blk\next4\n")?;
        fs::create_dir_all(tree.join("payload"))
            .map_err(|error| format!("/payload cannot be made: {error}"))?;
        let unit = etc.join("systemd/system/boot-test.service");
        write(&unit, &read("deploy/boot-test/boot-test.service")?)?;
        let mut chroot = Command::new("chroot");
        chroot.arg(&tree).args(["sh", "-ec", IN_THE_TREE]).stdout(Stdio::null());
        stage("its kernel's first file system", with_sbin(chroot))?;

        for (from, to) in [("vmlinuz", "kernel"), ("initrd.img", "initrd")] {
            let newest = newest(&tree.join("boot"), from)?;
            fs::copy(&newest, self.folder.join(to))
                .map_err(|error| format!("{}: cannot be copied: {error}", newest.display()))?;
        }
        // Under its name only when it is whole.
        let unfinished = self.folder.join("disk.unfinished");
        disk(&tree, &unfinished, "3G")?;
        fs::rename(&unfinished, self.disk()).map_err(|error| format!("the disk cannot be named: {error}"))?;
        remove(&tree)
    }

    /// Boots it with the package and waits for what it says.
    fn check(&self, package: &Path) -> Result<(), String> {
        let payload = self.folder.join("payload");
        remove(&payload)?;
        write(&payload.join("guest.sh"), &read("deploy/boot-test/guest.sh")?)?;
        let add = root().join("examples/chimera-output/add.wasm");
        let name = format!("void-wasm_{}_amd64.deb", env!("CARGO_PKG_VERSION"));
        for (from, to) in [(package, name.as_str()), (add.as_path(), "add.wasm")] {
            fs::copy(from, payload.join(to))
                .map_err(|error| format!("{}: cannot be copied: {error}", from.display()))?;
            mode(&payload.join(to), 0o644)?;
        }
        fs::write(payload.join("spin.wasm"), SPIN).map_err(|error| format!("spin.wasm: {error}"))?;
        install::run(Path::new("/usr/local"), &payload.join("by-hand"))?;
        let payload_disk = self.folder.join("payload.ext4");
        disk(&payload, &payload_disk, "256M")?;
        let outcome = self.boot(&payload_disk);
        remove(&payload)?;
        outcome
    }

    fn boot(&self, payload: &Path) -> Result<(), String> {
        let accelerator = accelerator();
        eprintln!("── boot {} ({accelerator})", self.release);
        let drive = |path: &Path, more: &str| format!("file={},format=raw,if=virtio{more}", path.display());
        let mut qemu = Command::new("timeout");
        qemu.args([
            "--kill-after=10",
            PATIENCE,
            "qemu-system-x86_64",
            "-no-reboot",
            "-display",
            "none",
            "-nic",
            "none",
        ]);
        qemu.args(["-machine", "q35", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "2048"]);
        qemu.args(["-serial", "stdio", "-monitor", "none"]);
        qemu.arg("-kernel").arg(self.folder.join("kernel")).arg("-initrd").arg(self.folder.join("initrd"));
        qemu.args(["-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no panic=-1"]);
        // What it writes to its disk is thrown away at its end.
        qemu.args([
            "-drive",
            &drive(&self.disk(), ",snapshot=on"),
            "-drive",
            &drive(payload, ",readonly=on"),
        ]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = qemu.spawn().map_err(|error| format!("qemu cannot be started: {error}"))?;
        let mut last = None;
        let log = self.folder.join("console.log");
        let mut all = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        if let Some(console) = child.stdout.take() {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if ["ok ", "not ok ", "# ", "boot-test: "].iter().any(|start| line.starts_with(start)) {
                    println!("{line}");
                }
                if line.starts_with("boot-test: ") {
                    last = Some(line.clone());
                }
                // For people to look at: the outcome does not depend on it.
                let _ = writeln!(all, "{line}");
            }
        }
        let _ = child.wait();
        match last {
            Some(line) if line.ends_with(" passed, 0 failed") && !line.contains(" 0 passed") => Ok(()),
            Some(line) => Err(format!("{}: {line}", self.release)),
            None => Err(format!(
                "{}: the machine stopped before its checks had ended; all that it printed is in {}",
                self.release,
                log.display()
            )),
        }
    }
}

/// Run inside the new tree.
const IN_THE_TREE: &str = "mount -t proc proc /proc
update-initramfs -u -k all
umount /proc
systemctl enable boot-test.service
systemctl mask serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
";

/// Hardware where there is any: a machine that is itself emulated has the device, and not always what it takes.
fn accelerator() -> &'static str {
    let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    if usable && (has("vmx") || has("svm")) { "kvm" } else { "tcg,thread=multi" }
}

fn disk(tree: &Path, path: &Path, size: &str) -> Result<(), String> {
    remove(path)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"]).args([tree, path]).arg(size);
    stage(&format!("disk {}", path.display()), with_sbin(make))
}

fn with_sbin(mut command: Command) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn newest(folder: &Path, start: &str) -> Result<PathBuf, String> {
    let names = install::names(folder)?;
    let found = names.into_iter().rfind(|name| name.starts_with(start));
    found.map(|name| folder.join(name)).ok_or_else(|| format!("{} has no {start}", folder.display()))
}

fn read(name: &str) -> Result<String, String> {
    let path = root().join(name);
    fs::read_to_string(&path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    let outcome = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: cannot be removed: {error}", path.display()))
        }
        _ => Ok(()),
    }
}
