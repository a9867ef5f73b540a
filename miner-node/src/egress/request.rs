//! What a job says to the proxy first: the head of an HTTP/1 request. Hostile, like all that a job
//! says.

use super::rule::Target;

/// Longest head, in bytes.
pub const LONGEST_HEAD: usize = 8 << 10;

/// Most headers; none of them is heeded.
const MOST_HEADERS: usize = 64;

/// A head that asks for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// To whom.
    pub target: Target,
    /// How long the head is, in bytes: what follows is for the target.
    pub length: usize,
}

/// An answer that is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status, with its phrase.
    pub status: &'static str,
    /// Why, for whoever reads the job's log.
    pub why: String,
}

impl Refused {
    /// With this status and reason.
    pub fn new(status: &'static str, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// It as bytes.
    pub fn response(&self) -> Vec<u8> {
        let Self { status, why } = self;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{why}\n",
            why.len() + 1
        )
        .into_bytes()
    }
}

/// Reads the head at the beginning of `bytes`; `None` where it is not complete yet.
///
/// # Errors
/// Where it is no request for a connection.
pub fn parse(bytes: &[u8]) -> Result<Option<Connect>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let seen = &bytes[..bytes.len().min(LONGEST_HEAD)];
    let length = match request.parse(seen) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            let status = "431 Request Header Fields Too Large";
            return Err(Refused::new(status, "the head of the request is too long"));
        }
        Err(error) => return Err(Refused::new("400 Bad Request", error.to_string())),
    };
    if request.method != Some("CONNECT") {
        let why = "this proxy only takes CONNECT: use https, or a tunnel to the port of plain http";
        return Err(Refused::new("405 Method Not Allowed", why));
    }
    let target = request.path.unwrap_or_default().parse();
    let target = target.map_err(|error: super::rule::InvalidTarget| {
        Refused::new("400 Bad Request", error.to_string())
    })?;
    Ok(Some(Connect { target, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_head_is_not_of_it() {
        let head = b"CONNECT Example.org:443 HTTP/1.1\r\nHost: other:1\r\n\r\n";
        let mut bytes = head.to_vec();
        bytes.extend(b"\x16\x03\x01");
        let connect = parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (connect.target.to_string().as_str(), connect.length),
            ("example.org:443", head.len())
        );
        for end in 0..head.len() {
            assert_eq!(parse(&head[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("CONNECT a:1 HTTP/1.1\r\nA: {}", "x".repeat(LONGEST_HEAD));
        let many = format!("CONNECT a:1 HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MOST_HEADERS + 1));
        for (text, status) in [
            ("GET http://example.org/ HTTP/1.1\r\n\r\n", "405"),
            ("connect a:1 HTTP/1.1\r\n\r\n", "405"),
            ("CONNECT a HTTP/1.1\r\n\r\n", "400"),
            ("CONNECT http://a:1/ HTTP/1.1\r\n\r\n", "400"),
            ("CONNECT a:1 HTTP/2.0\r\n\r\n", "400"),
            ("CONNECT a:1\r\n\r\n", "400"),
            ("\x16\x03\x01\x02\x00\x01", "400"),
            (&long, "431"),
            (&many, "431"),
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().status.starts_with(status), "{text}");
        }
    }
}
