//! The encoding of an answer's body (RFC 9110, 8.4), and undoing it as the body comes.
//!
//! It is done here and not by the HTTP client, which undoes one encoding of several and says nothing of the others. Which
//! encodings a body has is asked once, of all header lines together.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// What a host is told.
pub(super) const ACCEPTED: &str = "gzip, deflate";

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
    /// Something has come. A body that is empty, as HEAD's is, is no broken one.
    begun: bool,
}

enum How {
    AsItIs(Room),
    Gzip(MultiGzDecoder<Room>),
    /// What `deflate` means depends on the first byte: zlib, as it should, or the bare form that some hosts send.
    Deflate(Option<Room>),
    Zlib(ZlibDecoder<Room>),
    Bare(DeflateDecoder<Room>),
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
    /// Decodes a body of at most so many bytes. [`Encoding::Other`] is left as it is.
    pub(super) fn new(encoding: &Encoding, most: usize) -> Decoder {
        let room = Room { bytes: Vec::new(), most };
        let how = match encoding {
            Encoding::Plain | Encoding::Other(_) => How::AsItIs(room),
            Encoding::Gzip => How::Gzip(MultiGzDecoder::new(room)),
            Encoding::Deflate => How::Deflate(Some(room)),
        };
        Decoder { how, begun: false }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), Spoiled> {
        let Some(first) = piece.first() else { return Ok(()) };
        self.begun = true;
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
            How::Gzip(decoder) => decoder.write_all(piece),
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
            How::Gzip(decoder) => decoder.finish()?,
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
