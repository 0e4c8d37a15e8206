//! Messages on a QUIC stream.

use model::codec::{self, CodecError, HEADER_BYTES, Received};
use quinn::{ReadExactError, RecvStream};

/// Memory for a body grows by at most this much ahead of what has arrived, whatever length its header claims.
const STEP_BYTES: usize = 64 << 10;

/// Why reading a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a frame was cut off")]
    Truncated,
    #[error(transparent)]
    Read(#[from] quinn::ReadError),
}

/// What the next frame was.
pub(crate) enum Frame {
    /// A frame with a body of this many bytes.
    Whole(Received, u32),
    /// A known kind whose body does not decode; the stream goes on behind it.
    Malformed(CodecError),
    /// The stream ended between two frames.
    End,
}

/// Reads one frame. `body` is scratch space that is kept between calls. Not cancel-safe.
pub(crate) async fn read(stream: &mut RecvStream, body: &mut Vec<u8>) -> Result<Frame, FrameError> {
    let mut header = [0; HEADER_BYTES];
    match stream.read_exact(&mut header).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(Frame::End),
        Err(e) => return Err(cut(e)),
    }
    let header = codec::decode_header(header)?;
    body.clear();
    body.shrink_to(STEP_BYTES);
    while body.len() < header.body_bytes {
        let start = body.len();
        body.resize(header.body_bytes.min(start + STEP_BYTES), 0);
        let step = body.get_mut(start..).unwrap_or_default();
        stream.read_exact(step).await.map_err(cut)?;
    }
    match codec::decode_body(header, body) {
        Ok(received) => Ok(Frame::Whole(received, u32::try_from(body.len()).unwrap_or(u32::MAX))),
        Err(error @ CodecError::Body { .. }) => Ok(Frame::Malformed(error)),
        Err(error) => Err(error.into()),
    }
}

fn cut(error: ReadExactError) -> FrameError {
    match error {
        ReadExactError::FinishedEarly(_) => FrameError::Truncated,
        ReadExactError::ReadError(e) => FrameError::Read(e),
    }
}
