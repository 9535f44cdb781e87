//! The encoding of an answer's body (RFC 9110, 8.4), and undoing it as the body comes.
//!
//! It is done here and not by the HTTP client, which undoes one encoding of several and says nothing of the others. Which
//! encodings a body has is asked once, of all header lines together.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, TRANSFER_ENCODING};

/// What a host is told.
pub(super) const ACCEPTED: &str = "gzip, deflate";

/// Members of a gzip body (RFC 1952, 2.2): each costs a decoder, also if it holds nothing. Tools that write many put 64 KiB
/// into each.
const MEMBERS_MAX: usize = 1000;

/// The most bytes that a body of so many may have before it is decoded: what cannot be compressed grows by less. Pieces that
/// decode to nothing would otherwise be read for ever.
pub(super) fn most_encoded(most: usize) -> usize {
    most.saturating_add(most / 8).saturating_add(64 * 1024)
}

/// Whether the HTTP client undoes the transfer encoding (RFC 9112, 6.1): it knows `chunked` alone, and only as the last word
/// of the last line. A host must not send another where none was asked for.
pub(super) fn undone_in_transfer(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked =
        lines.next().is_none_or(|line| line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    chunked && lines.next().is_none()
}

/// How a body is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Gzip,
    Deflate,
    /// In a way that is not undone here, or in more than one; the words of the header.
    Other(String),
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Encoding {
        let lines = headers.get_all(CONTENT_ENCODING).iter();
        let all = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect::<Vec<_>>().join(",");
        let named = all.split(',').map(|word| word.trim().to_ascii_lowercase());
        let named: Vec<String> = named.filter(|word| !word.is_empty() && word != "identity").collect();
        match named.as_slice() {
            [] => Encoding::Plain,
            [one] if one == "gzip" || one == "x-gzip" => Encoding::Gzip,
            [one] if one == "deflate" => Encoding::Deflate,
            _ => Encoding::Other(named.join(", ")),
        }
    }
}

/// A body as it grows, decoded, up to its limit.
pub(super) struct Decoder {
    how: How,
    /// Bytes that may still come.
    left: usize,
    /// Something has come. A body that is empty, as HEAD's is, is no broken one.
    begun: bool,
}

enum How {
    AsItIs(Room),
    Gzip(Members),
    /// What `deflate` means depends on the first byte: zlib, as it should, or the bare form that some hosts send.
    Deflate(Option<Room>),
    Zlib(ZlibDecoder<Room>),
    Bare(DeflateDecoder<Room>),
}

/// The members of a gzip body, one after the other.
struct Members {
    /// None after an error.
    now: Option<GzDecoder<Room>>,
    /// How many may follow.
    left: usize,
}

impl Members {
    fn take(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let taken = self.now.as_mut().map_or(Ok(0), |decoder| decoder.write(piece))?;
            // It takes nothing more where its member ends.
            if taken == 0 {
                self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::FileTooLarge)?;
                self.now = Some(GzDecoder::new(self.now.take().ok_or(io::ErrorKind::InvalidData)?.finish()?));
            }
            piece = piece.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn finish(self) -> io::Result<Room> {
        self.now.ok_or(io::ErrorKind::InvalidData)?.finish()
    }
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spoiled {
    TooLarge,
    Broken,
}

/// Holds what has come, and takes no more than it may.
struct Room {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Room {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.most - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<io::Error> for Spoiled {
    fn from(error: io::Error) -> Spoiled {
        if error.kind() == io::ErrorKind::FileTooLarge { Spoiled::TooLarge } else { Spoiled::Broken }
    }
}

impl Decoder {
    /// Decodes a body of at most so many bytes, from at most [`most_encoded`]. [`Encoding::Other`] is left as it is.
    pub(super) fn new(encoding: &Encoding, most: usize) -> Decoder {
        let room = Room { bytes: Vec::new(), most };
        let how = match encoding {
            Encoding::Plain | Encoding::Other(_) => How::AsItIs(room),
            Encoding::Gzip => How::Gzip(Members { now: Some(GzDecoder::new(room)), left: MEMBERS_MAX - 1 }),
            Encoding::Deflate => How::Deflate(Some(room)),
        };
        Decoder { how, left: most_encoded(most), begun: false }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), Spoiled> {
        let Some(first) = piece.first() else { return Ok(()) };
        self.begun = true;
        self.left = self.left.checked_sub(piece.len()).ok_or(Spoiled::TooLarge)?;
        if let How::Deflate(room) = &mut self.how
            && let Some(room) = room.take()
        {
            // RFC 1950, 2.2: the low half of zlib's first byte is 8. A bare stream that began so would have a block of
            // stored bytes whose padding is not zero.
            self.how = if first & 15 == 8 {
                How::Zlib(ZlibDecoder::new(room))
            } else {
                How::Bare(DeflateDecoder::new(room))
            };
        }
        match &mut self.how {
            How::AsItIs(room) => room.write_all(piece),
            How::Gzip(members) => members.take(piece),
            How::Zlib(decoder) => decoder.write_all(piece),
            How::Bare(decoder) => decoder.write_all(piece),
            How::Deflate(_) => Ok(()),
        }?;
        Ok(())
    }

    /// The whole body, if it was whole.
    pub(super) fn finish(self) -> Result<Vec<u8>, Spoiled> {
        if !self.begun {
            return Ok(Vec::new());
        }
        let room = match self.how {
            How::AsItIs(room) => room,
            How::Gzip(members) => members.finish()?,
            How::Zlib(mut decoder) => {
                ended(decoder.write(&[0]))?;
                decoder.finish()?
            }
            How::Bare(mut decoder) => {
                ended(decoder.write(&[0]))?;
                decoder.finish()?
            }
            How::Deflate(_) => return Ok(Vec::new()),
        };
        Ok(room.bytes)
    }
}

/// Whether a decoder was at its end: these say so by taking nothing more, and would finish a stream that was cut without
/// a word.
fn ended(taken: io::Result<usize>) -> Result<(), Spoiled> {
    if taken? == 0 { Ok(()) } else { Err(Spoiled::Broken) }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use reqwest::header::HeaderValue;

    use super::*;

    fn encoding(lines: &[&'static str]) -> Encoding {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(line));
        }
        Encoding::of(&headers)
    }

    #[test]
    fn only_chunks_are_undone_by_the_client() {
        for (lines, undone) in [
            (&[][..], true),
            (&["chunked"], true),
            (&[" Chunked "], true),
            (&["gzip, chunked"], false),
            (&["gzip", "chunked"], false),
            (&["chunked", "chunked"], false),
            (&["chunked,"], false),
            (&["chunked, identity"], false),
            (&["gzip"], false),
            (&["identity"], false),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|line| {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(line));
            });
            assert_eq!(undone_in_transfer(&headers), undone, "{lines:?}");
        }
    }

    /// What decodes to nothing is bounded as well.
    #[test]
    fn a_body_that_never_gives_anything_has_an_end() {
        let empty = GzEncoder::new(Vec::new(), Compression::default()).finish().unwrap();
        for piece in [1, 19, 4096] {
            assert_eq!(
                decoded(&Encoding::Gzip, &empty.repeat(MEMBERS_MAX), piece, 0),
                Ok(Vec::new()),
                "{piece}"
            );
            let more = decoded(&Encoding::Gzip, &empty.repeat(MEMBERS_MAX + 1), piece, 1 << 30);
            assert_eq!(more, Err(Spoiled::TooLarge), "{piece}");
        }
        // Stored blocks without bytes (RFC 1951, 3.2.4), and then the last one.
        let stored =
            |bytes: usize| [[0, 0, 0, 255, 255].repeat(bytes / 5 - 1), vec![1, 0, 0, 255, 255]].concat();
        let most = 80_000;
        assert_eq!(most_encoded(most), 155_536);
        assert_eq!(decoded(&Encoding::Deflate, &stored(155_535), 4096, most), Ok(Vec::new()));
        assert_eq!(decoded(&Encoding::Deflate, &stored(155_540), 4096, most), Err(Spoiled::TooLarge));
    }

    fn decoded(encoding: &Encoding, body: &[u8], piece: usize, most: usize) -> Result<Vec<u8>, Spoiled> {
        let mut decoder = Decoder::new(encoding, most);
        body.chunks(piece).try_for_each(|piece| decoder.take(piece))?;
        decoder.finish()
    }

    #[test]
    fn all_lines_of_the_header_are_one_list() {
        let other = |words: &str| Encoding::Other(words.to_owned());
        for (lines, expected) in [
            (&[][..], Encoding::Plain),
            (&["identity"], Encoding::Plain),
            (&[""], Encoding::Plain),
            (&["gzip"], Encoding::Gzip),
            (&["GZip"], Encoding::Gzip),
            (&["x-gzip"], Encoding::Gzip),
            (&["identity", " X-GZIP , "], Encoding::Gzip),
            (&["Deflate"], Encoding::Deflate),
            (&["gzip", "gzip"], other("gzip, gzip")),
            (&["gzip, gzip"], other("gzip, gzip")),
            (&["gzip", "br"], other("gzip, br")),
            (&["br"], other("br")),
            (&["gzip deflate"], other("gzip deflate")),
        ] {
            assert_eq!(encoding(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_body_is_decoded_whole_or_not_at_all_whatever_pieces_it_comes_in() {
        let plain: Vec<u8> = (0..50_000u32).map(|n| (n / 7 * 31) as u8).collect();
        let gzip = {
            let mut to = GzEncoder::new(Vec::new(), Compression::default());
            to.write_all(&plain).unwrap();
            to.finish().unwrap()
        };
        let zlib = {
            let mut to = ZlibEncoder::new(Vec::new(), Compression::default());
            to.write_all(&plain).unwrap();
            to.finish().unwrap()
        };
        let bare = {
            let mut to = DeflateEncoder::new(Vec::new(), Compression::default());
            to.write_all(&plain).unwrap();
            to.finish().unwrap()
        };
        for (how, body) in [
            (Encoding::Plain, &plain),
            (Encoding::Gzip, &gzip),
            (Encoding::Deflate, &zlib),
            (Encoding::Deflate, &bare),
        ] {
            for piece in [1, 7, 4096, usize::MAX] {
                assert_eq!(decoded(&how, body, piece, plain.len()).as_ref(), Ok(&plain), "{how:?} {piece}");
                assert_eq!(
                    decoded(&how, body, piece, plain.len() - 1),
                    Err(Spoiled::TooLarge),
                    "{how:?} {piece}"
                );
                if how != Encoding::Plain {
                    for cut in [1, 2, 5, body.len() / 2, body.len() - 1] {
                        let cut = decoded(&how, &body[..cut], piece, plain.len());
                        assert_eq!(cut, Err(Spoiled::Broken), "{how:?} {piece}");
                    }
                }
            }
            assert_eq!(decoded(&how, b"", 1, 0), Ok(Vec::new()), "{how:?}");
        }
        let two = [gzip.as_slice(), &gzip].concat();
        assert_eq!(
            decoded(&Encoding::Gzip, &two, 100, 100_000).unwrap(),
            [plain.as_slice(), &plain].concat()
        );
        assert_eq!(decoded(&Encoding::Gzip, &plain, 100, 100_000), Err(Spoiled::Broken));
    }
}
