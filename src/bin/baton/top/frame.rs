//! How a view is drawn.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Tabs};

use super::Top;
use super::rows::View;

/// Lines around the rows: two above, the tabs, the head of the table, the keys.
pub(super) const AROUND: u16 = 5;

const KEYS: &str = "1-5 Tab view   arrows scroll   / filter   p pause   q end";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, top: &mut Top) {
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .split(frame.area());
    frame.render_widget(Paragraph::new(above(top)), areas[0]);
    let titles = View::ALL.iter().enumerate().map(|(i, view)| format!("{} {}", i + 1, view.title()));
    let chosen = View::ALL.iter().position(|view| *view == top.view);
    let tabs =
        Tabs::new(titles).select(chosen).highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(tabs, areas[1]);

    let rows = top.rows();
    let visible = usize::from(areas[2].height.saturating_sub(1)).max(1);
    top.skipped = top.skipped.min(rows.len().saturating_sub(visible));
    frame.render_widget(table(top, &rows), areas[2]);
    frame.render_widget(Paragraph::new(below(top, rows.len(), visible)), areas[3]);
}

fn above(top: &Top) -> Text<'static> {
    let mut first = vec![Span::styled("baton ", Style::new().add_modifier(Modifier::BOLD))];
    if let Some(look) = &top.now {
        let status = &look.answer.status;
        first.push(Span::raw(format!("{}  {}", status.machine.stack, status.machine.version)));
        let owned = format!(
            "  DVIPAs owned {}  backed up {}",
            status.machine.dvipas_owned, status.machine.dvipas_backed_up
        );
        first.push(Span::raw(owned));
    }
    if let Some(trouble) = &top.trouble {
        first.push(Span::styled(format!("  {trouble}"), Style::new().fg(Color::Red)));
    } else if top.paused {
        first.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
    }
    let second = top.summary().into_iter().map(|(name, value)| Span::raw(format!("{name} {value}   ")));
    Text::from(vec![Line::from(first), second.collect::<Vec<_>>().into()])
}

fn below(top: &Top, rows: usize, visible: usize) -> Line<'static> {
    if top.filtering {
        return Line::from(format!("/{}_", top.filter));
    }
    let filter = if top.filter.is_empty() { String::new() } else { format!("   filter: {}", top.filter) };
    let last = (top.skipped + visible).min(rows);
    let place =
        if rows > visible { format!("   {} to {last} of {rows}", top.skipped + 1) } else { String::new() };
    Line::styled(format!("{KEYS}{filter}{place}"), Style::new().fg(Color::DarkGray))
}

fn table(top: &Top, rows: &[Vec<String>]) -> Table<'static> {
    let (head, numbers) = top.view.head();
    let shown = rows.iter().skip(top.skipped);
    // Columns keep their width while rows are scrolled over.
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let widest = cells.chain(head.get(column).map(|title| title.len())).max().unwrap_or(0);
        Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))
    };
    let mut widths: Vec<Constraint> = (0..head.len()).map(width).collect();
    if let Some(last) = widths.last_mut() {
        *last = Constraint::Fill(1);
    }
    let aligned = |column: usize, text: String| {
        let right = numbers.contains(&column);
        Text::from(text).alignment(if right { Alignment::Right } else { Alignment::Left })
    };
    let row = |row: &Vec<String>| {
        let cells = row.iter().enumerate();
        Row::new(
            cells
                .map(|(i, cell)| Cell::from(aligned(i, cell.clone())).style(colour(cell)))
                .collect::<Vec<_>>(),
        )
    };
    let titles = head.iter().enumerate().map(|(i, title)| Cell::from(aligned(i, (*title).to_owned())));
    let head = Row::new(titles.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(shown.map(row), widths).header(head).column_spacing(2)
}

/// Words of states have a colour beside.
fn colour(word: &str) -> Style {
    match word {
        "listening" | "up" => Style::new().fg(Color::Green),
        "draining" | "quiet" | "weight-zero" | "full" | "moving" => Style::new().fg(Color::Yellow),
        "lost"
        | "dead"
        | "unreachable"
        | "never-seen"
        | "not-listening"
        | "failing"
        | "stalled"
        | "not-reported"
        | "no-candidate"
        | "address-conflict"
        | "no-routing-application" => Style::new().fg(Color::Red),
        _ => Style::new(),
    }
}
