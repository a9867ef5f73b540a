//! The runners that ask a server of the owner's: set up once, and looked at again and again.

use super::{Llm, Runners, Sd};
use crate::config;

impl Runners {
    /// Adds those that are switched on. A server that is away is asked again with
    /// [`refresh`](Self::refresh). `complain` hears why something is not offered.
    pub async fn add_served(&mut self, config: &config::Runners, mut complain: impl FnMut(&str)) {
        if config.llm.enable {
            match Llm::new(&config.llm) {
                Ok(llm) => self.llm = Some(llm),
                Err(why) => complain(&format!("no text is offered: {why}")),
            }
        }
        if config.sd.enable {
            match Sd::new(&config.sd) {
                Ok(sd) => self.sd = Some(sd),
                Err(why) => complain(&format!("no images are offered: {why}")),
            }
        }
        self.refresh(complain).await;
    }

    /// Asks the owner's servers again what they have. Says whether that has changed; `complain`
    /// hears of those that do not answer.
    pub async fn refresh(&self, mut complain: impl FnMut(&str)) -> bool {
        let mut has_changed = false;
        if let Some(llm) = &self.llm {
            let before = llm.models();
            if let Err(error) = llm.refresh().await {
                complain(&format!("no text is offered for now: {error}"));
            }
            has_changed |= llm.models() != before;
        }
        if let Some(sd) = &self.sd {
            let before = sd.models();
            if let Err(error) = sd.refresh().await {
                complain(&format!("no images are offered for now: {error}"));
            }
            has_changed |= sd.models() != before;
        }
        has_changed
    }
}
