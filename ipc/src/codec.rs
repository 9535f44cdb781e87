//! Frame and body: the only file that names the serialisation format.
//!
//! A frame is `length (u32 LE, of all that follows) · version (u8) · body`, one frame a packet. The
//! body's format is unmaintained upstream, so it is pinned, bounded here, and replaceable here.
//! Messages hold no zero-sized elements, so that the byte limit bounds the
//! work and the memory of every decode.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
pub(crate) use bincode::{Decode, Encode};

use crate::limits::{FRAME_BYTES, HEADER_BYTES, VERSION};

type Format = Configuration<LittleEndian, Varint, Limit<FRAME_BYTES>>;
const FORMAT: Format = bincode::config::standard().with_limit::<FRAME_BYTES>();

/// What can be a frame's body: the types of [`crate::message`].
pub trait Message: bincode::Encode + bincode::Decode<()> {}

impl<T: bincode::Encode + bincode::Decode<()>> Message for T {}

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// The message does not fit a frame.
    #[error("the message does not fit a frame of {FRAME_BYTES} bytes")]
    TooLarge,
    /// The frame is shorter than a header, or its length field does not fit the packet.
    #[error("the frame's length does not match the packet")]
    Length,
    /// The frame was made by another build.
    #[error("the frame has version {0}, this build speaks {VERSION}")]
    Version(u8),
    /// The body is not a message of the expected type, or bytes are left behind it.
    #[error("the frame's body is not a legal message")]
    Body,
}

/// Writes `message` as one frame into `frame`, which is cleared first.
///
/// # Errors
/// [`CodecError::TooLarge`] when it would exceed [`FRAME_BYTES`].
pub fn encode<T: Message>(message: &T, frame: &mut Vec<u8>) -> Result<(), CodecError> {
    frame.clear();
    frame.extend_from_slice(&[0, 0, 0, 0, VERSION]);
    bincode::encode_into_std_write(message, frame, FORMAT).map_err(|_| CodecError::TooLarge)?;
    if frame.len() > FRAME_BYTES {
        return Err(CodecError::TooLarge);
    }
    let length = u32::try_from(frame.len() - 4).map_err(|_| CodecError::TooLarge)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// As [`encode`], without allocation, into a slice: for signal handlers. The frame's length.
///
/// # Errors
/// [`CodecError::TooLarge`] when it does not fit.
pub fn encode_into<T: Message>(message: &T, frame: &mut [u8]) -> Result<usize, CodecError> {
    let body = frame.get_mut(HEADER_BYTES..).ok_or(CodecError::TooLarge)?;
    let length =
        HEADER_BYTES + bincode::encode_into_slice(message, body, FORMAT).map_err(|_| CodecError::TooLarge)?;
    let counted = u32::try_from(length - 4).map_err(|_| CodecError::TooLarge)?;
    frame[..4].copy_from_slice(&counted.to_le_bytes());
    frame[4] = VERSION;
    Ok(length)
}

/// Reads one message from `packet`, which must hold exactly one frame.
///
/// # Errors
/// Anything but exactly one well-formed frame of this version is refused.
pub fn decode<T: Message>(packet: &[u8]) -> Result<T, CodecError> {
    let (header, body) = packet.split_at_checked(HEADER_BYTES).ok_or(CodecError::Length)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    if packet.len() > FRAME_BYTES || usize::try_from(length) != Ok(packet.len() - 4) {
        return Err(CodecError::Length);
    }
    if header[4] != VERSION {
        return Err(CodecError::Version(header[4]));
    }
    match bincode::decode_from_slice::<T, _>(body, FORMAT) {
        Ok((message, read)) if read == body.len() => Ok(message),
        _ => Err(CodecError::Body),
    }
}
