//! What the command line reads: a coordinator's events, and its user's profiles.

use aitbc::coordinator::sse::{Message, Parser, SseError};
use aitbc::profile::Profiles;
use protocol::event::JobEvent;

/// A stream of server-sent events; its first byte says where it is cut, for a network cuts anywhere.
pub fn event_stream(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    let cut = read(stream, usize::from(*size).max(1));
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        // What came before the fault may have been handed on, or not.
        (Err(whole), Err(cut)) => assert_eq!(whole, cut),
        _ => panic!("{whole:?}, but {cut:?}"),
    }
    for message in whole.unwrap_or_default() {
        assert!(message.data.len() <= stream.len());
        assert!(message.id.is_none_or(|id| !id.contains(['\r', '\n'])));
        let Ok(event) = serde_json::from_str::<JobEvent>(&message.data) else { continue };
        let text = serde_json::to_string(&event).expect("an event is JSON");
        let again: JobEvent = serde_json::from_str(&text).expect("it was written by us");
        assert_eq!(again, event);
    }
}

fn read(stream: &[u8], size: usize) -> Result<Vec<Message>, SseError> {
    let mut parser = Parser::default();
    let pieces = stream.chunks(size).map(|piece| parser.push(piece));
    pieces.collect::<Result<Vec<_>, _>>().map(|messages| messages.concat())
}

/// A profile file: what was understood is written so that it is understood again, and a key never
/// shows.
pub fn profiles(data: &[u8]) {
    const KEY: &str = "client-0123456789abcdef.never-to-be-seen";
    let Ok(text) = str::from_utf8(data) else { return };
    let mut profiles = match Profiles::parse(text) {
        Ok(profiles) => profiles,
        Err(why) => return assert!(!why.is_empty()),
    };
    let written = profiles.to_yaml();
    assert_eq!(Profiles::parse(&written).as_ref(), Ok(&profiles), "{written}");
    let name = profiles.profiles.keys().next().cloned().unwrap_or_default();
    assert_eq!(profiles.set(&name, "key", KEY), Ok(()));
    assert!(!format!("{profiles:?}").contains(KEY));
    assert_eq!(Profiles::parse(&profiles.to_yaml()), Ok(profiles));
}
