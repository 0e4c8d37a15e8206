//! Nanoseconds a packet against flows, by stage, as SVG and PNG, with a page that says what the figure shows and where it
//! was measured.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use crate::rows::Rows;
use crate::{FLOWS, machine};

/// The rows that the figure is made of.
pub(crate) const ROWS: [&str; 3] = ["stage_", "limit_line_", "testpmd_io_ns"];

const SIZE: (u32, u32) = (1000, 620);
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
const CAPTION: &str = "\
60-byte packets of established TCP connections over IPv4, carried on in IPIP to 16 targets, by one core, in bursts of 64; each
flow as likely as any other, 25 million packets for each second of the clock that connections are aged by. *Whole path*: from
the receive burst to the send burst of a DPDK net_null port, every check and counter included, the packets' source subtracted.
*Receive and send*: the same without our path. *Look-up*: the same with the look-up of the packets' connections alone, the
making of their keys subtracted. *Parse, encapsulate and the rest*: what these leave of the whole path; memory that is waited
for in the look-up can be waited for less in the path, so that it is a lower bound. *Limit*: one random 64-byte line out of as
many bytes as the connection table has, bursts of 32 prefetches. Passes of all kinds take turns; of each sixteen the best counts,
and the mean over the whole run.";

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} can't be read (Debian: apt install fonts-dejavu-core): {1}")]
    Font(&'static str, std::io::Error),
    #[error("{0} was not measured, and the figure needs it")]
    Missing(String),
    #[error("{0}: {1}")]
    File(PathBuf, String),
}

/// What was measured at one number of flows, in nanoseconds a packet.
#[derive(Clone, Copy, Debug)]
struct Point {
    flows: f64,
    io: f64,
    lookup: f64,
    path: f64,
}

impl Point {
    /// The bands' own widths, from the lowest up. A difference below zero is noise.
    fn bands(self) -> [f64; 3] {
        [self.io, self.path - self.io - self.lookup, self.lookup]
    }

    /// The upper ends of the bands as they are drawn, the whole path being the last one.
    fn ends(self) -> [f64; 3] {
        let [io, rest, _] = self.bands();
        [io, (io + rest.max(0.0)).min(self.path), self.path]
    }
}

const BANDS: [(&str, RGBColor); 3] = [
    ("receive and send", RGBColor(0x9a, 0xa5, 0xb1)),
    ("parse, encapsulate and the rest", RGBColor(0x33, 0x5c, 0x81)),
    ("look-up", RGBColor(0xe0, 0x9f, 0x3e)),
];

/// Writes `path.svg`, `path.png`, `path.jsonl` and `README.md` into `directory`.
///
/// # Errors
/// If a row or the font is missing, or a file can't be written.
pub(crate) fn write(directory: &Path, rows: &Rows) -> Result<(), Error> {
    let font = fs::read(FONT).map_err(|e| Error::Font(FONT, e))?;
    // For the rest of this short process's life, as the library wants it.
    let _ = plotters::style::register_font("sans-serif", FontStyle::Normal, font.leak());
    let points = points(rows)?;
    let (svg, png) = (directory.join("path.svg"), directory.join("path.png"));
    draw(SVGBackend::new(&svg, SIZE), &points, rows).map_err(|e| Error::File(svg.clone(), e))?;
    draw(BitMapBackend::new(&png, SIZE), &points, rows).map_err(|e| Error::File(png.clone(), e))?;
    for (name, text) in [("path.jsonl", rows.json_lines()), ("README.md", page(&points))] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|e| Error::File(path, e.to_string()))?;
    }
    Ok(())
}

fn points(rows: &Rows) -> Result<Vec<Point>, Error> {
    let point = |(flows, word): (u32, &str)| {
        let get = |stage: &str| {
            let name = format!("stage_{stage}_{word}_ns");
            rows.value(&name).ok_or(Error::Missing(name))
        };
        Ok(Point { flows: flows.into(), io: get("io")?, lookup: get("lookup")?, path: get("path")? })
    };
    FLOWS.into_iter().map(point).collect()
}

fn draw<B: DrawingBackend>(backend: B, points: &[Point], rows: &Rows) -> Result<(), String> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let top = points.iter().map(|p| p.path).fold(0.0, f64::max) * 1.25;
    let mut chart = ChartBuilder::on(&area)
        .caption("baton, one core: nanoseconds a packet against flows", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(56)
        .build_cartesian_2d((1e3..1e7).log_scale(), 0.0..top)
        .map_err(text)?;
    chart
        .configure_mesh()
        .x_desc("flows")
        .y_desc("ns a packet")
        .x_label_formatter(&|n| if *n >= 1e6 { format!("{} M", n / 1e6) } else { format!("{} k", n / 1e3) })
        .light_line_style(WHITE)
        .label_style(("sans-serif", 15))
        .draw()
        .map_err(text)?;
    // From the highest down, so that each covers what is below its own band.
    for (band, (name, color)) in BANDS.iter().enumerate().rev() {
        let line = points.iter().map(|p| (p.flows, p.ends()[band]));
        let series = AreaSeries::new(line, 0.0, color.filled()).border_style(WHITE);
        let key = move |(x, y)| Rectangle::new([(x, y - 6), (x + 18, y + 6)], color.filled());
        chart.draw_series(series).map_err(text)?.label(*name).legend(key);
    }
    let whole = points.iter().map(|p| (p.flows, p.path));
    chart.draw_series(LineSeries::new(whole.clone(), BLACK.stroke_width(2)).point_size(3)).map_err(text)?;
    for (flows, ns) in whole {
        let at = (flows, ns + top * 0.04);
        chart.draw_series([Text::new(format!("{ns:.0}"), at, ("sans-serif", 15))]).map_err(text)?;
    }
    let limit = [(1e4, "10k"), (1e6, "1m"), (1e7, "10m")];
    let limit =
        limit.iter().filter_map(|(n, word)| Some((*n, rows.value(&format!("limit_line_{word}_ns"))?)));
    let io = rows.value("testpmd_io_ns").into_iter().flat_map(|ns| [(1e3, ns), (1e7, ns)]);
    let lines: [Vec<(f64, f64)>; 2] = [limit.collect(), io.collect()];
    for (line, (name, color)) in
        lines.into_iter().zip([("limit: one random line of as many bytes", RED), ("testpmd io", BLACK)])
    {
        let series = DashedLineSeries::new(line, 6, 4, color.stroke_width(2));
        let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2));
        chart.draw_series(series).map_err(text)?.label(name).legend(key);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 15))
        .draw()
        .map_err(text)?;
    area.present().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The figure's page.
fn page(points: &[Point]) -> String {
    let mut page = format!("# Nanoseconds a packet against flows\n\n![by stage](path.svg)\n\n{CAPTION}\n\n");
    page += "Written by `perf/plot`; every row that it is made of is in [path.jsonl](path.jsonl). Nanoseconds of another\n\
             machine can't be compared with these, ratios within a run can.\n\n| flows |";
    for (name, _) in BANDS {
        let _ = write!(page, " {name} |");
    }
    page += " whole path |\n| ---: | ---: | ---: | ---: | ---: |\n";
    for point in points {
        let _ = write!(page, "| {} |", point.flows);
        for ns in point.bands() {
            let _ = if ns < 0.0 { write!(page, " below the noise |") } else { write!(page, " {ns:.1} |") };
        }
        let _ = writeln!(page, " {:.1} |", point.path);
    }
    page += "\n| machine | |\n| --- | --- |\n";
    for (what, which) in machine::describe() {
        let _ = writeln!(page, "| {what} | {which} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stage_is_drawn_or_printed_below_zero() {
        let noisy = Point { flows: 1e3, io: 9.0, lookup: 25.0, path: 33.0 };
        assert_eq!(noisy.ends(), [9.0, 9.0, 33.0]);
        assert!(
            page(&[noisy]).contains("| 1000 | 9.0 | below the noise | 25.0 | 33.0 |"),
            "{}",
            page(&[noisy])
        );
    }
}
