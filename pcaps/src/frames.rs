//! Frames in pcap files.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

use crate::case::CaseError;

/// A frame and when it came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Milliseconds on the worker's clock.
    pub at_ms: u64,
    /// The bytes, from the Ethernet header on, without a frame check sequence.
    pub bytes: Vec<u8>,
}

/// Reads all frames of a file.
///
/// # Errors
/// [`CaseError`] if it can't be read or is damaged.
pub fn read(path: &Path) -> Result<Vec<Frame>, CaseError> {
    let file = path.display().to_string();
    let open = File::open(path).map_err(|cause| CaseError::Read { file: file.clone(), cause })?;
    let damaged = |cause| CaseError::Pcap { file: file.clone(), cause };
    let mut reader = PcapReader::new(BufReader::new(open)).map_err(damaged)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(damaged)?;
        let at_ms = u64::try_from(packet.timestamp.as_millis()).unwrap_or(u64::MAX);
        frames.push(Frame { at_ms, bytes: packet.data.into_owned() });
    }
    Ok(frames)
}

/// Writes a file with these frames.
///
/// # Errors
/// [`CaseError`] if it can't be written.
pub fn write(path: &Path, frames: &[Frame]) -> Result<(), CaseError> {
    let file = path.display().to_string();
    let create = File::create(path).map_err(|cause| CaseError::Read { file: file.clone(), cause })?;
    let failed = |cause| CaseError::Pcap { file: file.clone(), cause };
    let mut writer = PcapWriter::new(BufWriter::new(create)).map_err(failed)?;
    for frame in frames {
        let length = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        let packet = PcapPacket::new(Duration::from_millis(frame.at_ms), length, &frame.bytes);
        writer.write_packet(&packet).map_err(failed)?;
    }
    Ok(())
}
