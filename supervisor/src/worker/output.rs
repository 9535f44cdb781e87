//! What a guest wrote, as far as it is kept.

use void_ipc::message::Stream;

/// Bytes that a run may write in all, kept or not: each costs the service time to throw away.
pub(crate) const MOST_BYTES: u64 = 64 << 20;
/// A message counts at least so much, so that many small ones end too.
const MESSAGE_BYTES: u64 = 256;

/// Both streams.
#[derive(Debug)]
pub(crate) struct Output {
    keep: usize,
    taken: u64,
    stdout: Kept,
    stderr: Kept,
}

/// What is kept of one stream.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Keeps at most `keep` bytes of each stream.
    pub(crate) fn new(keep: u32) -> Output {
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        Output { keep, taken: 0, stdout: Kept::default(), stderr: Kept::default() }
    }

    /// Takes a piece; whether the run may write more.
    pub(crate) fn take(&mut self, stream: Stream, piece: &[u8]) -> bool {
        self.taken = self.taken.saturating_add((piece.len() as u64).max(MESSAGE_BYTES));
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = self.keep - kept.bytes.len();
        kept.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        kept.cut |= piece.len() > room;
        self.taken <= MOST_BYTES
    }

    /// Standard output and standard error.
    pub(crate) fn into_streams(self) -> (Kept, Kept) {
        (self.stdout, self.stderr)
    }
}

impl Kept {
    /// As text, and whether there was more. Bytes that are not UTF-8 are replaced; a character that the cut went through is
    /// left out.
    pub(crate) fn into_text(mut self) -> (String, bool) {
        if self.cut
            && let Err(error) = std::str::from_utf8(&self.bytes)
            && error.error_len().is_none()
        {
            self.bytes.truncate(error.valid_up_to());
        }
        let text = String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        (text, self.cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keep: u32, pieces: &[&[u8]]) -> (String, bool) {
        let mut output = Output::new(keep);
        pieces.iter().for_each(|piece| assert!(output.take(Stream::Stdout, piece)));
        output.into_streams().0.into_text()
    }

    #[test]
    fn what_is_beyond_the_limit_is_cut_and_said_to_be() {
        assert_eq!(kept(4, &[b"ab", b"cd"]), ("abcd".into(), false));
        assert_eq!(kept(4, &[b"ab", b"cde", b"f"]), ("abcd".into(), true));
        assert_eq!(kept(0, &[b""]), (String::new(), false));
        assert_eq!(kept(0, &[b"a"]), (String::new(), true));
        assert_eq!(kept(3, &["aäö".as_bytes()]), ("aä".into(), true));
        assert_eq!(kept(4, &["aäö".as_bytes()]), ("aä".into(), true), "no half character");
        assert_eq!(kept(9, &[b"a\xffb"]), ("a\u{fffd}b".into(), false));
    }

    #[test]
    fn too_much_ends_in_bytes_and_in_messages() {
        let mut output = Output::new(1);
        let piece = vec![0; 65_536];
        let pieces = (0..).take_while(|_| output.take(Stream::Stderr, &piece)).count();
        assert_eq!(pieces, 1024);
        let mut output = Output::new(1);
        let messages = (0..).take_while(|_| output.take(Stream::Stdout, b"")).count();
        assert_eq!(messages, 262_144);
    }
}
