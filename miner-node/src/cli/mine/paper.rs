//! What waits to be printed, and the thread that prints it: whoever reads the lines may be slow, or
//! read nothing at all, and neither mining nor its end may wait for that.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mining::Notice;
use mining::engine::Status;
use tokio::sync::oneshot;

/// How many lines wait at most.
const MOST_LINES: usize = 1000;

/// Something to be printed.
#[derive(Debug, Clone)]
pub(super) enum Line {
    Notice(Notice),
    Speed(Box<Status>),
    Summary(Box<Status>, Duration),
    /// So many had to be left out.
    LeftOut(u64),
}

impl Line {
    /// Whether the next one of its kind says as much.
    const fn passes(&self) -> bool {
        match self {
            Self::Notice(notice) => {
                matches!(notice, Notice::Job { .. } | Notice::Dataset { .. })
            }
            Self::Speed(_) => true,
            Self::Summary(..) | Self::LeftOut(_) => false,
        }
    }
}

/// The lines that wait.
#[derive(Debug, Default)]
pub(super) struct Paper {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Line>,
    left_out: u64,
    is_over: bool,
}

impl Paper {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, in the place of another one where there are too many.
    pub(super) fn put(&self, line: Line) {
        let mut waiting = self.waiting();
        if waiting.lines.len() >= MOST_LINES {
            let place = waiting.lines.iter().position(Line::passes).unwrap_or(0);
            waiting.lines.remove(place);
            waiting.left_out += 1;
        }
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_one();
    }

    /// There will be no more.
    pub(super) fn end(&self) {
        self.waiting().is_over = true;
        self.changed.notify_one();
    }

    /// Waits for the next one; `None` after the last.
    fn next(&self) -> Option<Line> {
        let mut waiting = self.waiting();
        loop {
            if waiting.left_out > 0 {
                return Some(Line::LeftOut(std::mem::take(&mut waiting.left_out)));
            }
            if let Some(line) = waiting.lines.pop_front() {
                return Some(line);
            }
            if waiting.is_over {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins to print. What is returned tells when that ended, and how.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn print(
        self: &Arc<Self>,
        mut print: impl FnMut(&Line) -> io::Result<()> + Send + 'static,
    ) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (tell, ended) = oneshot::channel();
        let paper = Arc::clone(self);
        thread::Builder::new().name("lines".to_owned()).spawn(move || {
            let printed = std::iter::from_fn(|| paper.next()).try_for_each(|line| print(&line));
            // Nobody may wait for it any more.
            let _ = tell.send(printed);
        })?;
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn warning(number: usize) -> Line {
        Line::Notice(Notice::Warning { text: number.to_string() })
    }

    #[test]
    fn what_nobody_reads_takes_no_memory_and_holds_nobody_up() {
        let paper = Arc::new(Paper::default());
        let (go_on, may) = channel::<()>();
        let (tell, printed) = channel();
        let ended = paper.print(move |line| {
            may.recv().map_err(io::Error::other)?;
            tell.send(line.clone()).map_err(io::Error::other)
        });
        paper.put(warning(0));
        for number in 0..3 * MOST_LINES {
            paper.put(Line::Notice(Notice::Dataset { percent: 1 }));
            if number % 10 == 0 {
                paper.put(warning(number + 1));
            }
        }
        paper.end();
        assert!(paper.waiting().lines.len() <= MOST_LINES);
        (0..=MOST_LINES + 2).for_each(|_| go_on.send(()).unwrap());
        ended.unwrap().blocking_recv().unwrap().unwrap();
        let lines: Vec<_> = printed.try_iter().collect();
        let is_warning = |line: &&Line| matches!(line, Line::Notice(Notice::Warning { .. }));
        // Only lines that the next one makes up for were left out, and that is said.
        assert_eq!(lines.iter().filter(is_warning).count(), 1 + 3 * MOST_LINES / 10);
        let left_out = |line: &Line| matches!(line, Line::LeftOut(count) if *count > 0);
        assert!(lines.iter().any(left_out));
    }

    #[test]
    fn a_reader_that_has_gone_is_noticed() {
        let paper = Arc::new(Paper::default());
        let ended = paper.print(|_| Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        paper.put(warning(1));
        let error = ended.blocking_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
