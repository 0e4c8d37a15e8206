//! `baton top`: what a routing node and its cluster do, live, in a terminal.
//!
//! In reading order: here (looks, keys), [`rows`] (what each view shows), [`frame`] (how it is drawn). A thread asks batond and another one reads keys, so that keys
//! are followed while batond does not answer.

mod frame;
mod rows;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use control::runtime::api::{EventRow, WatchAnswer};
use hyper::Method;
use ratatui::Terminal;
use ratatui::backend::{TermionBackend, TestBackend};
use ratatui::termion::event::Key;
use ratatui::termion::input::TermRead;
use ratatui::termion::raw::IntoRawMode;
use ratatui::termion::screen::IntoAlternateScreen;

use crate::arguments::TopArguments;
use crate::client;
use crate::failure::Failure;
use crate::orders::parse;
pub(crate) use rows::View;

/// How often batond is asked; it is left alone for [`REST`] times what an answer cost it.
const EVERY: Duration = Duration::from_secs(1);
const REST: u32 = 200;
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
    if !io::stdout().is_terminal() {
        return Err(Failure::Text(
            "error: `baton top` needs a terminal; `baton top --once` does not".to_owned(),
        ));
    }
    let (sender, news) = mpsc::channel();
    keys(sender.clone());
    looks(socket.to_owned(), top.next_event(), sender);
    live(&mut top, &news).map_err(terminal).map(|()| String::new())
}

/// What the display hears.
enum News {
    Key(Key),
    Look(Result<Box<WatchAnswer>, Failure>),
}

fn terminal(error: io::Error) -> Failure {
    Failure::Text(format!("error: the terminal can't be used: {error}"))
}

/// One frame as text.
fn once(top: &mut Top, width: u16) -> io::Result<String> {
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
fn looks(socket: PathBuf, mut after: u64, to: mpsc::Sender<News>) {
    thread::spawn(move || {
        let mut rest = EVERY;
        loop {
            thread::sleep(rest);
            let look = look(&socket, after);
            if let Ok(answer) = &look {
                after = answer.events.next;
                rest = EVERY.max(Duration::from_micros(answer.took_us) * REST);
            }
            if to.send(News::Look(look.map(Box::new))).is_err() {
                return;
            }
        }
    });
}

/// Tells of each key, until the terminal has gone: that ends the display too.
fn keys(to: mpsc::Sender<News>) {
    thread::spawn(move || {
        for key in io::stdin().keys() {
            if to.send(News::Key(key.unwrap_or(Key::Ctrl('c')))).is_err() {
                return;
            }
        }
        let _ = to.send(News::Key(Key::Ctrl('c')));
    });
}

fn live(top: &mut Top, news: &mpsc::Receiver<News>) -> io::Result<()> {
    // Both end when this is dropped.
    let screen = io::stdout().into_raw_mode()?.into_alternate_screen()?;
    let mut screen = Terminal::new(TermionBackend::new(screen))?;
    loop {
        if std::mem::take(&mut top.redraw) {
            // Not `clear`: it asks the terminal where the cursor is, and the answer comes in as keys.
            let area = screen.get_frame().area();
            screen.resize(area)?;
        }
        screen.draw(|frame| frame::draw(frame, top))?;
        match news.recv() {
            Ok(News::Key(key)) if !top.ends(key) => {}
            Ok(News::Look(Ok(_))) if top.paused => {}
            Ok(News::Look(Ok(answer))) => top.take(*answer),
            Ok(News::Look(Err(failure))) => {
                top.trouble = Some(failure.text().lines().next().unwrap_or_default().to_owned());
            }
            Ok(News::Key(_)) | Err(_) => return screen.show_cursor(),
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
    fn ends(&mut self, key: Key) -> bool {
        match key {
            Key::Ctrl('c') => return true,
            Key::Ctrl('l') => self.redraw = true,
            Key::Char('\n') if self.filtering => self.filtering = false,
            Key::Esc => (self.filtering, self.filter) = (false, String::new()),
            Key::Backspace if self.filtering => drop(self.filter.pop()),
            Key::Char(letter) if self.filtering => {
                self.filter.push(letter);
                self.skipped = 0;
            }
            Key::Char('q') => return true,
            Key::Char('/') => self.filtering = true,
            Key::Char('p') => self.paused = !self.paused,
            Key::Char(digit @ '1'..='5') => self.show(View::ALL[digit as usize - '1' as usize]),
            Key::Char('\t') | Key::Right => self.show(self.view.neighbour(1)),
            Key::BackTab | Key::Left => self.show(self.view.neighbour(View::ALL.len() - 1)),
            Key::Up | Key::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            Key::Down | Key::Char('j') => self.skipped = self.skipped.saturating_add(1),
            Key::PageUp => self.skipped = self.skipped.saturating_sub(20),
            Key::PageDown => self.skipped = self.skipped.saturating_add(20),
            Key::Home => self.skipped = 0,
            _ => {}
        }
        false
    }

    fn show(&mut self, view: View) {
        (self.view, self.skipped) = (view, 0);
    }
}
