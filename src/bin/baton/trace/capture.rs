//! `baton capture`: packets as they come and as they go, in a pcapng file, each with the reason as a comment.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use control::runtime::looking::TraceRow;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use super::{follow, say_missed};
use crate::arguments::CaptureArguments;
use crate::failure::Failure;

/// The interfaces of the file, in the order of their numbers.
const INTERFACES: [&str; 2] = ["nic", "local"];
/// Times are in units of 10 to the minus ninth of a second (if_tsresol).
const NANOSECONDS: u8 = 9;
/// Directions in the flags of a packet (epb_flags).
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// Writes packets until it is over.
pub(crate) fn run(socket: &Path, arguments: &CaptureArguments) -> Result<String, Failure> {
    let to_stdout = arguments.file.as_os_str() == "-";
    let file: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout())
    } else {
        let name = arguments.file.display();
        Box::new(
            File::create(&arguments.file)
                .map_err(|e| Failure::Text(format!("error: cannot write {name}: {e}")))?,
        )
    };
    let mut writer = begin(BufWriter::new(file)).map_err(Failure::Output)?;
    let mut packets = 0;
    let missed = follow(socket, &arguments.trace, true, &mut |rows| {
        for row in rows {
            packets += 1;
            write(&mut writer, row)?;
        }
        writer.get_mut().flush()
    })?;
    say_missed(missed);
    if to_stdout {
        return Ok(String::new());
    }
    Ok(format!("{packets} packets are in {}\n", arguments.file.display()))
}

fn failed(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// A file without packets.
pub(crate) fn begin<W: Write>(to: W) -> io::Result<PcapNgWriter<W>> {
    let mut writer = PcapNgWriter::new(to).map_err(failed)?;
    for name in INTERFACES {
        let options = vec![
            InterfaceDescriptionOption::IfName(name.into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options };
        writer.write_pcapng_block(interface).map_err(failed)?;
    }
    Ok(writer)
}

/// A packet as it came, and what came out for it.
pub(crate) fn write<W: Write>(writer: &mut PcapNgWriter<W>, row: &TraceRow) -> io::Result<()> {
    let met = row.met.iter().map(|met| format!("{}: {}", met.name, met.sentence));
    let met = met.collect::<Vec<_>>().join("\n");
    let entry = row.entry.as_ref().map(|entry| format!("\nCRT: {} at {}", entry.state.name(), entry.stack));
    let comment = format!("{met}{}", entry.unwrap_or_default());
    if let Some(came) = &row.came {
        frame(writer, row.unix_ms, (&came.from, INBOUND), (&came.bytes, came.len), &comment)?;
    }
    for given in row.given.iter().filter(|given| given.to != "dropped" || row.came.is_none()) {
        frame(writer, row.unix_ms, (&given.to, OUTBOUND), (&given.bytes, given.len), &comment)?;
    }
    Ok(())
}

fn frame<W: Write>(
    writer: &mut PcapNgWriter<W>,
    unix_ms: u64,
    (interface, direction): (&str, u32),
    (bytes, len): (&str, usize),
    comment: &str,
) -> io::Result<()> {
    let number = INTERFACES.iter().position(|name| *name == interface).unwrap_or(0);
    let block = EnhancedPacketBlock {
        interface_id: u32::try_from(number).unwrap_or(0),
        timestamp: Duration::from_millis(unix_ms),
        original_len: u32::try_from(len).unwrap_or(u32::MAX),
        data: Cow::Owned(binary(bytes)),
        options: vec![EnhancedPacketOption::Comment(comment.into()), EnhancedPacketOption::Flags(direction)],
    };
    writer.write_pcapng_block(block).map(drop).map_err(failed)
}

/// The bytes that are written in hexadecimal.
fn binary(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| pair.iter().fold(0, |byte, digits| byte << 4 | digit(*digits))).collect()
}
