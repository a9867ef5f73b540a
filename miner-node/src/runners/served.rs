//! The runners that ask a server of the owner's: set up once, and looked at again and again.

use std::collections::BTreeMap;

use protocol::Name;

use super::{Fault, Llm, Remark, Runners, Sd};
use crate::config::{self, Selection};
use crate::servers::ServerError;

/// The most models that a server's runner offers.
const MOST_MODELS: usize = 256;

/// The models that can be asked for, each with what its server calls it: those that the owner
/// selected and whose names can stand in a job. What two of them share is offered for none.
pub(super) fn unambiguous<'a>(
    named: impl Iterator<Item = (&'a str, &'a str)>,
    selection: &Selection,
) -> BTreeMap<Name, String> {
    let mut models = BTreeMap::new();
    let mut ambiguous = Vec::new();
    for (name, server_name) in named {
        let Ok(name) = name.parse::<Name>() else { continue };
        match models.get(&name) {
            Some(other) if other != server_name => ambiguous.push(name),
            _ => drop(models.insert(name, server_name.to_owned())),
        }
    }
    models.retain(|name, _| selection.contains(name) && !ambiguous.contains(name));
    models.into_iter().take(MOST_MODELS).collect()
}

impl Runners {
    /// Adds those that are switched on. A server that is away is asked again with
    /// [`refresh`](Self::refresh). `complain` hears why something is not offered.
    pub async fn add_served(&mut self, config: &config::Runners, mut complain: impl FnMut(Remark)) {
        if config.llm.enable {
            match Llm::new(&config.llm) {
                Ok(llm) => self.llm = Some(llm),
                Err(why) => complain(not_set_up("llm", why)),
            }
        }
        if config.sd.enable {
            match Sd::new(&config.sd) {
                Ok(sd) => self.sd = Some(sd),
                Err(why) => complain(not_set_up("sd", why)),
            }
        }
        self.refresh(complain).await;
    }

    /// Asks the owner's servers again what they have. Says whether that has changed; `complain`
    /// hears of those that do not answer.
    pub async fn refresh(&self, mut complain: impl FnMut(Remark)) -> bool {
        let mut has_changed = false;
        if let Some(llm) = &self.llm {
            let before = llm.models();
            if let Err(error) = llm.refresh().await {
                complain(away("llm", &error));
            }
            has_changed |= llm.models() != before;
        }
        if let Some(sd) = &self.sd {
            let before = sd.models();
            if let Err(error) = sd.refresh().await {
                complain(away("sd", &error));
            }
            has_changed |= sd.models() != before;
        }
        has_changed
    }
}

fn not_set_up(runner: &'static str, why: String) -> Remark {
    Remark::fails(runner, Fault::new(why, "correct the file that it names"))
}

fn away(runner: &'static str, error: &ServerError) -> Remark {
    let why = format!("nothing is offered for now: {error}");
    Remark::fails(
        runner,
        Fault::new(why, format!("start the server, or correct runners.{runner}.url")),
    )
}
