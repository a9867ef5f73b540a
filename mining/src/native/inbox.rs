//! The way for what pools tell. A pool that sends jobs faster than they can be taken up fills no
//! memory with them: only the newest one is kept.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Message;
use crate::pool::{Event, Job};

/// The way for what pools tell.
#[derive(Debug, Clone)]
pub struct Inbox {
    pub(super) to: Sender<Message>,
    pub(super) newest: Newest,
}

/// The job that nobody has taken up yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Newest(Arc<Mutex<Option<Job>>>);

impl Newest {
    fn lock(&self) -> MutexGuard<'_, Option<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Option<Job> {
        self.lock().take()
    }
}

impl Inbox {
    pub(super) fn new(to: Sender<Message>) -> Self {
        Self { to, newest: Newest::default() }
    }

    /// A pool told this. Nothing happens once the engine has ended.
    pub fn tell(&self, event: Event) {
        let message = match event {
            Event::Job(job) => match self.newest.lock().replace(job) {
                None => Message::Job,
                // It is announced already.
                Some(_) => return,
            },
            Event::Connected { .. } | Event::Disconnected { .. } => {
                // A job of before has come to nothing, and one of after must not overtake this.
                self.newest.take();
                Message::Pool(event)
            }
            Event::Answered { .. } => Message::Pool(event),
        };
        let _ = self.to.send(message);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::target::Target;
    use crate::work::{MONERO_NONCE_AT, NonceRange, Work};

    fn job(number: u64) -> Event {
        let (blob, target) = (vec![0; 76], Target::of_difficulty(1));
        Event::Job(Job {
            number,
            id: String::new(),
            algorithm: Algorithm::RandomX,
            seed: None,
            next_seed: None,
            height: None,
            work: Work::new(blob, MONERO_NONCE_AT, NonceRange::ALL, target).unwrap(),
            extra_nonce: Vec::new(),
        })
    }

    #[test]
    fn of_a_flood_of_jobs_the_newest_is_kept() {
        let (to, messages) = channel();
        let inbox = Inbox::new(to);
        for number in 1..=1000 {
            inbox.tell(job(number));
        }
        assert!(matches!(messages.try_recv().unwrap(), Message::Job));
        assert!(messages.try_recv().is_err());
        assert_eq!(inbox.newest.take().unwrap().number, 1000);
        inbox.tell(job(1001));
        assert!(matches!(messages.try_recv().unwrap(), Message::Job));
    }

    #[test]
    fn a_job_does_not_overtake_its_connection() {
        let (to, messages) = channel();
        let inbox = Inbox::new(to);
        inbox.tell(job(1));
        inbox.tell(Event::Connected { url: "pool.example:3333".to_owned() });
        inbox.tell(job(2));
        assert!(matches!(messages.try_recv().unwrap(), Message::Job));
        assert!(matches!(messages.try_recv().unwrap(), Message::Pool(Event::Connected { .. })));
        assert!(matches!(messages.try_recv().unwrap(), Message::Job));
        assert_eq!(inbox.newest.take().unwrap().number, 2);
    }
}
