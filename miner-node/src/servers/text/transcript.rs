//! A reply as it comes in, piece by piece: into lines, and what they say. Pure.

use bytes::BytesMut;
use tokio_util::codec::{Decoder as _, LinesCodec};

use super::super::{ServerError, quoted};
use super::Dialect;

/// The longest line, in bytes: Ollama's last one lists every token of the context.
const LONGEST_LINE: usize = 4 << 20;

/// What one line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// More of the answer.
    pub text: String,
    /// Which model says so.
    pub model: Option<String>,
    /// What the server has counted.
    pub counts: Counts,
    /// Whether it stands for a token, of which the text may be empty: a part of a character.
    pub is_token: bool,
    /// Whether the answer is complete; counts may follow.
    pub has_finished: bool,
    /// Whether nothing follows.
    pub is_last: bool,
}

/// What a server has counted, as far as it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens that it generated.
    pub generated: Option<u64>,
    /// Tokens of the prompt.
    pub prompt: Option<u64>,
    /// Time that it spent on generating, in nanoseconds.
    pub generation_nanos: Option<u64>,
}

/// A reply, as far as it has come.
#[derive(Debug)]
pub struct Transcript {
    dialect: Dialect,
    model: String,
    codec: LinesCodec,
    buffer: BytesMut,
    counts: Counts,
    pieces: u64,
    has_finished: bool,
    is_over: bool,
}

impl Transcript {
    /// An empty one, of an answer by the model that the server calls `model`.
    pub fn new(dialect: Dialect, model: &str) -> Self {
        Self {
            dialect,
            model: model.to_owned(),
            codec: LinesCodec::new_with_max_length(LONGEST_LINE),
            buffer: BytesMut::new(),
            counts: Counts::default(),
            pieces: 0,
            has_finished: false,
            is_over: false,
        }
    }

    /// Takes in more of the reply and returns what it adds to the answer.
    ///
    /// # Errors
    /// What the server complains of, that it makes no sense, or that another model speaks.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<String, ServerError> {
        self.buffer.extend_from_slice(bytes);
        let mut text = String::new();
        while !self.is_over {
            match self.codec.decode(&mut self.buffer).map_err(nonsense)? {
                Some(line) => text.push_str(&self.line(&line)?),
                None => break,
            }
        }
        Ok(text)
    }

    /// Takes in that the reply has ended, and returns what its last line adds to the answer.
    ///
    /// # Errors
    /// As [`hear`](Self::hear), and where it broke off.
    pub fn end(&mut self) -> Result<String, ServerError> {
        let last = match self.is_over {
            true => None,
            false => self.codec.decode_eof(&mut self.buffer).map_err(nonsense)?,
        };
        let text = last.map(|line| self.line(&line)).transpose()?.unwrap_or_default();
        if self.is_over || self.has_finished {
            Ok(text)
        } else {
            Err(ServerError::Gone("its answer broke off".to_owned()))
        }
    }

    /// Whether everything has been said.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// What the server has counted. Where it has not, each piece was a token: servers stream them
    /// one by one, and those that join some claim too little.
    pub fn counts(&self) -> Counts {
        Counts { generated: self.counts.generated.or(Some(self.pieces)), ..self.counts }
    }

    /// How many pieces stood for a token.
    pub const fn pieces(&self) -> u64 {
        self.pieces
    }

    fn line(&mut self, line: &str) -> Result<String, ServerError> {
        let piece = self.dialect.heard(line)?;
        if let Some(other) = piece.model.filter(|model| *model != self.model) {
            let (other, asked) = (quoted(&other), quoted(&self.model));
            let why = format!("the model {other:?} answers where {asked:?} was asked");
            return Err(ServerError::Nonsense(why));
        }
        let (old, new) = (self.counts, piece.counts);
        self.counts = Counts {
            generated: new.generated.or(old.generated),
            prompt: new.prompt.or(old.prompt),
            generation_nanos: new.generation_nanos.or(old.generation_nanos),
        };
        self.pieces += u64::from(piece.is_token);
        self.has_finished |= piece.has_finished;
        self.is_over |= piece.is_last;
        Ok(piece.text)
    }
}

fn nonsense(error: tokio_util::codec::LinesCodecError) -> ServerError {
    ServerError::Nonsense(quoted(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "{\"model\":\"m\",\"response\":\"Hé\",\"done\":false}\r\n\
        {\"model\":\"m\",\"response\":\"llo\",\"done\":false}\n\
        {\"model\":\"m\",\"response\":\"\",\"done\":true,\"eval_count\":2}\n";

    #[test]
    fn pieces_may_be_cut_anywhere() {
        for size in 1..LINES.len() {
            let mut transcript = Transcript::new(Dialect::Ollama, "m");
            let mut text = String::new();
            for bytes in LINES.as_bytes().chunks(size) {
                text.push_str(&transcript.hear(bytes).unwrap());
            }
            text.push_str(&transcript.end().unwrap());
            assert_eq!((text.as_str(), transcript.counts().generated), ("Héllo", Some(2)));
            assert!(transcript.is_over());
        }
    }

    #[test]
    fn what_breaks_off_is_no_answer() {
        let mut transcript = Transcript::new(Dialect::Ollama, "m");
        transcript.hear(&LINES.as_bytes()[..60]).unwrap();
        assert!(matches!(transcript.end(), Err(ServerError::Gone(_) | ServerError::Nonsense(_))));
        let mut empty = Transcript::new(Dialect::OpenAi, "m");
        assert!(matches!(empty.end(), Err(ServerError::Gone(_))));
    }

    #[test]
    fn another_model_is_not_heard() {
        let error = Transcript::new(Dialect::Ollama, "big").hear(LINES.as_bytes()).unwrap_err();
        assert!(matches!(error, ServerError::Nonsense(_)), "{error}");
    }

    #[test]
    fn what_nobody_counted_is_counted_by_pieces() {
        let mut transcript = Transcript::new(Dialect::OpenAi, "m");
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
        assert_eq!(transcript.hear(text.as_bytes()).unwrap(), "ab");
        assert_eq!(transcript.end().unwrap(), "");
        assert_eq!(transcript.counts().generated, Some(2));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut transcript = Transcript::new(Dialect::Ollama, "m");
        let mut heard = Ok(String::new());
        for _ in 0..=LONGEST_LINE / 65_536 {
            heard = transcript.hear(&[b'a'; 65_536]);
        }
        assert!(matches!(heard, Err(ServerError::Nonsense(_))));
    }
}
