//! `baton top`: what a routing node and its cluster do, live, in a terminal.
//!
//! In reading order: here (looks, keys), [`rows`] (what each view shows), [`frame`] (how it is drawn). A thread of its own asks batond, so that keys
//! are answered while batond is not.

mod frame;
mod rows;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use control::runtime::api::{EventRow, WatchAnswer};
use hyper::Method;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::arguments::TopArguments;
use crate::client;
use crate::failure::Failure;
use crate::orders::parse;
use rows::View;

/// How often batond is asked; it is left alone for [`REST`] times what an answer cost it.
const EVERY: Duration = Duration::from_secs(1);
const REST: u32 = 200;
/// How long a key may wait until a new look is drawn.
const TURN: Duration = Duration::from_millis(50);
/// Events that are kept.
const EVENTS: usize = 200;
/// The frame of `--once` if nothing says how wide it is to be.
const WIDTH: u16 = 120;
/// Its lines at most.
const HEIGHT: u16 = 1000;

/// An answer, and when it came.
struct Look {
    at: Instant,
    answer: WatchAnswer,
}

/// Everything that is drawn, and what keys have chosen.
#[derive(Default)]
struct Top {
    view: View,
    /// Rows that were scrolled over.
    skipped: usize,
    filter: String,
    /// Keys go into the filter.
    filtering: bool,
    paused: bool,
    now: Option<Look>,
    before: Option<Look>,
    events: Vec<EventRow>,
    /// The whole screen is to be drawn anew.
    redraw: bool,
    /// Why the last look has failed.
    trouble: Option<String>,
}

/// Shows it until a key ends it, or one frame.
///
/// # Errors
/// [`Failure`] if batond does not answer at first, or there is no terminal.
pub(crate) fn run(socket: &Path, arguments: &TopArguments) -> Result<String, Failure> {
    let mut top = Top { view: arguments.view, ..Top::default() };
    top.take(look(socket, 0)?);
    if arguments.once {
        // Rates come with the second one.
        thread::sleep(EVERY);
        top.take(look(socket, top.next_event())?);
        return once(&mut top, arguments.width.unwrap_or(WIDTH)).map_err(terminal);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::Text("error: `baton top` needs a terminal; `baton top --once` does not".to_owned()));
    }
    let looks = looks(socket.to_owned(), top.next_event());
    let mut screen = ratatui::try_init().map_err(terminal)?;
    let ended = live(&mut screen, &mut top, &looks);
    ratatui::restore();
    ended.map_err(terminal).map(|()| String::new())
}

fn terminal(error: std::io::Error) -> Failure {
    Failure::Text(format!("error: the terminal can't be used: {error}"))
}

/// One frame as text.
fn once(top: &mut Top, width: u16) -> std::io::Result<String> {
    let height = u16::try_from(top.rows().len()).unwrap_or(HEIGHT).saturating_add(frame::AROUND).min(HEIGHT);
    let Ok(mut screen) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = screen.draw(|frame| frame::draw(frame, top));
    let buffer = screen.backend().buffer();
    let line = |y| (0..width).filter_map(move |x| Some(buffer.cell((x, y))?.symbol())).collect::<String>();
    Ok((0..height).map(|y| format!("{}\n", line(y).trim_end())).collect())
}

/// What batond says, with the events after this number.
fn look(socket: &Path, after: u64) -> Result<WatchAnswer, Failure> {
    let path = format!("/v1/watch?after={after}");
    parse(socket, &client::run(socket, client::ask(socket, Method::GET, &path, Vec::new()))?)
}

/// Looks again and again, until nobody takes them any more.
fn looks(socket: PathBuf, mut after: u64) -> mpsc::Receiver<Result<WatchAnswer, Failure>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut rest = EVERY;
        loop {
            thread::sleep(rest);
            let look = look(&socket, after);
            if let Ok(answer) = &look {
                after = answer.events.next;
                rest = EVERY.max(Duration::from_micros(answer.took_us) * REST);
            }
            if sender.send(look).is_err() {
                return;
            }
        }
    });
    receiver
}

fn live(
    screen: &mut ratatui::DefaultTerminal,
    top: &mut Top,
    looks: &mpsc::Receiver<Result<WatchAnswer, Failure>>,
) -> std::io::Result<()> {
    loop {
        if std::mem::take(&mut top.redraw) {
            screen.clear()?;
        }
        screen.draw(|frame| frame::draw(frame, top))?;
        loop {
            if event::poll(TURN)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release && top.ends(key) => return Ok(()),
                    _ => break,
                }
            }
            match looks.try_recv() {
                Ok(Ok(_)) if top.paused => {}
                Ok(Ok(answer)) => {
                    top.take(answer);
                    break;
                }
                Ok(Err(failure)) => {
                    top.trouble = Some(failure.text().lines().next().unwrap_or_default().to_owned());
                    break;
                }
                Err(_) => {}
            }
        }
    }
}

impl Top {
    fn next_event(&self) -> u64 {
        self.now.as_ref().map_or(0, |look| look.answer.events.next)
    }

    /// A new look; rates are from the one before to this one.
    fn take(&mut self, mut answer: WatchAnswer) {
        // A process that was started again counts anew.
        let before = self.now.take();
        let incarnation = answer.status.machine.incarnation;
        self.before = before.filter(|before| before.answer.status.machine.incarnation == incarnation);
        self.events.append(&mut answer.events.events);
        self.events.drain(..self.events.len().saturating_sub(EVENTS));
        self.now = Some(Look { at: Instant::now(), answer });
        self.trouble = None;
    }

    /// Does what a key says; `true`: the end.
    fn ends(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.redraw = key.code == KeyCode::Char('l');
            return key.code == KeyCode::Char('c');
        }
        if self.filtering {
            match key.code {
                KeyCode::Enter => self.filtering = false,
                KeyCode::Esc => (self.filtering, self.filter) = (false, String::new()),
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(letter) => self.filter.push(letter),
                _ => {}
            }
            self.skipped = 0;
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.filtering = true,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char(digit @ '1'..='5') => self.show(View::ALL[digit as usize - '1' as usize]),
            KeyCode::Tab | KeyCode::Right => self.show(self.view.neighbour(1)),
            KeyCode::BackTab | KeyCode::Left => self.show(self.view.neighbour(View::ALL.len() - 1)),
            KeyCode::Up | KeyCode::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.skipped = self.skipped.saturating_add(1),
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(20),
            KeyCode::PageDown => self.skipped = self.skipped.saturating_add(20),
            KeyCode::Home => self.skipped = 0,
            _ => {}
        }
        false
    }

    fn show(&mut self, view: View) {
        (self.view, self.skipped) = (view, 0);
    }
}
