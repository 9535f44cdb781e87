//! One code file: its form, writing it and reading it. Blocking.
//!
//! ```text
//! "voidcode" · HMAC-SHA256 over name and all that follows (32) · length of the description (u32 LE)
//! · description, as the frames in which the compiler told it · machine code, to the end
//! ```
//! Nothing of a file is decoded or handed out before all of it has passed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use hmac::Mac;
use void_ipc::limits::FRAME_BYTES;
use void_ipc::message::FromCompiler;

use super::super::heard::{Heard, Hearing};
use super::super::{Code, job};
use super::secret::Secret;

const MAGIC: &[u8; 8] = b"voidcode";
const MAC_AT: u64 = 8;
const HEAD_BYTES: usize = 8 + 32 + 4;

/// A description with the most and the longest names that a module may have stays below, bytes.
const DESCRIPTION_MAX: u32 = 64 << 20;

/// A whole file, bytes: the largest module's code stays far below.
const FILE_MAX: u64 = 1 << 30;

/// Bytes moved at once.
const STEP: usize = 256 << 10;

/// What reading a file came to.
#[derive(Debug)]
pub(super) enum Found {
    /// Authentic.
    Code(Code),
    /// There is none.
    Absent,
    /// It is not what this service wrote there.
    Rejected,
}

/// Writes `code` to `path`, whole or not at all, by way of the file `new`. How many bytes it has.
pub(super) fn write(
    path: &Path,
    new: &Path,
    name: &[u8; 32],
    secret: &Secret,
    code: &Code,
) -> io::Result<u64> {
    let written = write_new(new, name, secret, code).and_then(|bytes| {
        std::fs::rename(new, path)?;
        Ok(bytes)
    });
    if written.is_err() {
        // A full disk has the room back; if it was never made, there is nothing to remove.
        let _ = std::fs::remove_file(new);
    }
    written
}

fn write_new(new: &Path, name: &[u8; 32], secret: &Secret, code: &Code) -> io::Result<u64> {
    let mut description = Vec::new();
    let mut frame = Vec::new();
    for message in code.description.told(code.size) {
        void_ipc::encode(&message, &mut frame).map_err(io::Error::other)?;
        description.extend_from_slice(&frame);
    }
    let length = u32::try_from(description.len()).ok().filter(|length| *length <= DESCRIPTION_MAX);
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?.to_le_bytes();

    // Not synced: a file that a power cut has torn fails its check, and costs one compilation.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(new)?;
    let mut mac = secret.content(name).chain_update(length).chain_update(&description);
    file.write_all(&[MAGIC.as_slice(), &[0; 32], &length, &description].concat())?;
    let source = File::from(code.memfd.try_clone()?);
    let mut piece = vec![0; STEP];
    let mut at = 0;
    // By position: processes that load the code share the descriptor's own.
    while at < code.size {
        let read = source.read_at(&mut piece, at)?;
        let bytes =
            piece.get(..read).filter(|bytes| !bytes.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
        mac.update(bytes);
        file.write_all(bytes)?;
        at += read as u64;
    }
    file.write_all_at(&mac.finalize().into_bytes(), MAC_AT)?;
    Ok((HEAD_BYTES + description.len()) as u64 + code.size)
}

/// Reads the file at `path`, which must be the one of that name.
pub(super) fn read(path: &Path, name: &[u8; 32], secret: &Secret, engine: u64) -> io::Result<Found> {
    // A pipe laid there must not hold the thread, and a link is none of ours.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(Found::Rejected),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let size = meta.len();
    if !meta.is_file() || size < HEAD_BYTES as u64 || size > FILE_MAX {
        return Ok(Found::Rejected);
    }
    match read_whole(&mut file, size, name, secret, engine) {
        Ok(Some(code)) => {
            // When it was used last, by which files are let go; a file that cannot be touched goes by its making.
            let _ = file.set_modified(std::time::SystemTime::now());
            Ok(Found::Code(code))
        }
        Ok(None) => Ok(Found::Rejected),
        // It became shorter meanwhile.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Found::Rejected),
        Err(error) => Err(error),
    }
}

fn read_whole(
    file: &mut File,
    size: u64,
    name: &[u8; 32],
    secret: &Secret,
    engine: u64,
) -> io::Result<Option<Code>> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head)?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (claimed, length) = rest.split_at(32);
    let length: [u8; 4] = length.try_into().unwrap_or_default();
    let described = u32::from_le_bytes(length);
    let code_bytes = (size - HEAD_BYTES as u64).checked_sub(u64::from(described));
    let Some(code_bytes) = code_bytes.filter(|_| magic == MAGIC && described <= DESCRIPTION_MAX) else {
        return Ok(None);
    };
    let mut mac = secret.content(name).chain_update(length);
    let mut description = vec![0; described as usize];
    file.read_exact(&mut description)?;
    mac.update(&description);

    let memfd = job::memfd(c"code")?;
    let mut code = File::from(memfd);
    let mut piece = vec![0; STEP.min(usize::try_from(code_bytes).unwrap_or(STEP))];
    let mut left = code_bytes;
    while left > 0 {
        let bytes = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(bytes) = piece.get_mut(..bytes) else { return Ok(None) };
        file.read_exact(bytes)?;
        mac.update(bytes);
        code.write_all(bytes)?;
        left -= bytes.len() as u64;
    }
    // A file that has grown since is another one.
    if file.read(&mut [0])? != 0 || mac.verify_slice(claimed).is_err() {
        return Ok(None);
    }
    code.seek(SeekFrom::Start(0))?;
    let memfd = OwnedFd::from(code);
    job::seal(&memfd)?;
    Ok(decode(&description, code_bytes).map(|description| Code {
        description,
        size: code_bytes,
        engine,
        memfd,
    }))
}

/// Reads frames up to the end of a description. `None` cannot be where the MAC was right.
fn decode(mut frames: &[u8], code_bytes: u64) -> Option<super::super::Description> {
    let mut heard = Heard::default();
    loop {
        let (length, _) = frames.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize + 4;
        let (frame, rest) = frames.split_at_checked(length).filter(|_| length <= FRAME_BYTES)?;
        frames = rest;
        match heard.hear(void_ipc::decode::<FromCompiler>(frame).ok()?).ok()? {
            Hearing::More => {}
            Hearing::All(description, size) => {
                return (size == code_bytes && frames.is_empty()).then_some(description);
            }
            Hearing::Other(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::super::heard::tests::example;
    use super::*;

    struct Scratch {
        folder: PathBuf,
        secret: Secret,
    }

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("void-code-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir(&folder).unwrap();
            let secret = Secret::open(&folder).unwrap();
            Scratch { folder, secret }
        }

        fn file(&self) -> PathBuf {
            self.folder.join("file")
        }

        fn write(&self, code: &[u8]) -> Vec<u8> {
            let mut file = File::from(job::memfd(c"code").unwrap());
            file.write_all(code).unwrap();
            let code = Code {
                description: example(),
                size: code.len() as u64,
                engine: 1,
                memfd: OwnedFd::from(file),
            };
            let bytes = write(&self.file(), &self.folder.join("new"), &[1; 32], &self.secret, &code).unwrap();
            let content = std::fs::read(self.file()).unwrap();
            assert_eq!(bytes, content.len() as u64);
            content
        }

        fn read(&self) -> Found {
            read(&self.file(), &[1; 32], &self.secret, 1).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_sealed() {
        let scratch = Scratch::new("again");
        for size in [0, 1, STEP - 1, STEP, 3 * STEP + 5] {
            let code: Vec<u8> = (0..size).map(|n| n as u8).collect();
            scratch.write(&code);
            let Found::Code(found) = scratch.read() else { panic!("not found: {size}") };
            assert_eq!(found.description, example());
            let mut file = File::from(found.memfd);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, code);
            assert!(file.write_all(b"x").is_err(), "it is sealed");
            assert!(!scratch.folder.join("new").exists());
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let scratch = Scratch::new("changed");
        let whole = scratch.write(b"machine code");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            std::fs::write(scratch.file(), &changed).unwrap();
            assert!(matches!(scratch.read(), Found::Rejected), "byte {at}");
            std::fs::write(scratch.file(), &whole[..at]).unwrap();
            assert!(matches!(scratch.read(), Found::Rejected), "cut at {at}");
        }
        std::fs::write(scratch.file(), [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(matches!(scratch.read(), Found::Rejected));
        std::fs::write(scratch.file(), &whole).unwrap();
        assert!(matches!(scratch.read(), Found::Code(_)));
    }

    #[test]
    fn it_holds_for_its_name_and_its_secret_alone() {
        let scratch = Scratch::new("name");
        scratch.write(b"machine code");
        let other_name = read(&scratch.file(), &[2; 32], &scratch.secret, 1).unwrap();
        assert!(matches!(other_name, Found::Rejected));
        let stranger = Scratch::new("stranger");
        let other_secret = read(&scratch.file(), &[1; 32], &stranger.secret, 1).unwrap();
        assert!(matches!(other_secret, Found::Rejected));
    }

    #[test]
    fn what_is_no_file_is_rejected_and_none_is_absent() {
        let scratch = Scratch::new("kinds");
        assert!(matches!(scratch.read(), Found::Absent));
        std::fs::create_dir(scratch.file()).unwrap();
        assert!(matches!(scratch.read(), Found::Rejected));
        std::fs::remove_dir(scratch.file()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", scratch.file()).unwrap();
        assert!(matches!(scratch.read(), Found::Rejected));
        std::fs::remove_file(scratch.file()).unwrap();
        nix::unistd::mkfifo(&scratch.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(scratch.read(), Found::Rejected));
    }
}
