//! Server-sent events: from bytes to messages. Pure, with a limit on what a line may hold.

/// The longest line, in bytes: a log event of 64 KiB of text, each byte escaped, has room.
const MAX_LINE: usize = 1 << 20;

/// A message of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its id, if it states one.
    pub id: Option<String>,
    /// Its data, the lines joined.
    pub data: String,
}

/// Why a stream is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line, or all lines of a message together, are too long.
    #[error("an event is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The stream is no UTF-8.
    #[error("the stream is not UTF-8")]
    Encoding,
}

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_carriage_return: bool,
    message: Message,
    has_data: bool,
}

impl Parser {
    /// The messages that `bytes` complete.
    ///
    /// # Errors
    /// What makes the stream unreadable; it cannot be read on after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, SseError> {
        let mut messages = Vec::new();
        for byte in bytes {
            let ends_pair = std::mem::take(&mut self.after_carriage_return) && *byte == b'\n';
            match byte {
                _ if ends_pair => {}
                b'\n' | b'\r' => {
                    self.after_carriage_return = *byte == b'\r';
                    messages.extend(self.end_line()?);
                }
                _ if self.line.len() == MAX_LINE => return Err(SseError::TooLong),
                _ => self.line.push(*byte),
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Result<Option<Message>, SseError> {
        let line = String::from_utf8(std::mem::take(&mut self.line));
        let line = line.map_err(|_| SseError::Encoding)?;
        let line = line.trim_start_matches('\u{feff}');
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return Ok(std::mem::take(&mut self.has_data).then_some(message));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.add(value)?,
            "id" => self.message.id = Some(value.to_owned()),
            // `event` repeats what is in the data; an empty field is a comment.
            _ => {}
        }
        Ok(None)
    }

    fn add(&mut self, value: &str) -> Result<(), SseError> {
        if std::mem::replace(&mut self.has_data, true) {
            self.message.data.push('\n');
        }
        if self.message.data.len() + value.len() > MAX_LINE {
            return Err(SseError::TooLong);
        }
        self.message.data.push_str(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, data: &str) -> Message {
        Message { id: Some(id.to_owned()), data: data.to_owned() }
    }

    #[test]
    fn messages_come_out_however_the_bytes_are_cut() {
        let stream = ": hello\n\nid: 1\nevent: state\ndata: {\"a\": 1}\n\nid:2\r\ndata: x\r\ndata:  \
                      \u{e9}\r\n\r\ndata\n\nid: 3\n\n";
        let wanted = [
            message("1", "{\"a\": 1}"),
            message("2", "x\n \u{e9}"),
            Message { id: None, data: String::new() },
        ];
        for size in [1, 2, 3, 7, stream.len()] {
            let mut parser = Parser::default();
            let pieces = stream.as_bytes().chunks(size);
            let found: Vec<_> = pieces.flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(found, wanted, "{size}");
        }
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'a'; MAX_LINE + 1]), Err(SseError::TooLong));
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "a".repeat(MAX_LINE / 2));
        assert_eq!(parser.push(line.as_bytes()), Ok(vec![]));
        assert_eq!(parser.push(line.as_bytes()), Err(SseError::TooLong));
        assert_eq!(Parser::default().push(b"data: \xff\n"), Err(SseError::Encoding));
    }
}
