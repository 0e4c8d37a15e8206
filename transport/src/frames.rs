//! Messages on a stream.

use std::io;

use model::codec::{self, CodecError, HEADER_BYTES, Received, Side};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Memory for a body grows by at most this much ahead of what has arrived, whatever length its header claims.
const STEP_BYTES: usize = 64 << 10;

/// Why reading a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a frame was cut off")]
    Truncated,
    #[error("the stream can't be read: {0}")]
    Read(io::Error),
}

/// What the next frame was.
pub(crate) enum Frame<M> {
    /// A frame with a body of this many bytes.
    Whole(Received<M>, u32),
    /// A known kind whose body does not decode; the stream goes on behind it.
    Malformed(CodecError),
    /// The stream ended between two frames.
    End,
}

/// Reads one frame. `body` is scratch space that is kept between calls. Not cancel-safe.
pub(crate) async fn read<M: Side>(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
) -> Result<Frame<M>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    match fill(stream, &mut header).await? {
        0 => return Ok(Frame::End),
        HEADER_BYTES => {}
        _ => return Err(FrameError::Truncated),
    }
    let header = codec::decode_header(header)?;
    body.clear();
    body.shrink_to(STEP_BYTES);
    while body.len() < header.body_bytes {
        let start = body.len();
        body.resize(header.body_bytes.min(start + STEP_BYTES), 0);
        let step = body.get_mut(start..).unwrap_or_default();
        if fill(stream, step).await? < step.len() {
            return Err(FrameError::Truncated);
        }
    }
    match codec::decode_body(header, body) {
        Ok(received) => Ok(Frame::Whole(received, u32::try_from(body.len()).unwrap_or(u32::MAX))),
        Err(error @ CodecError::Body { .. }) => Ok(Frame::Malformed(error)),
        Err(error) => Err(error.into()),
    }
}

/// Fills a buffer, or as much of it as comes before the stream's end; how much.
async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await.map_err(FrameError::Read)? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}
