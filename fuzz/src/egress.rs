//! What a sandboxed job says to the proxy that is its only way out, and the owner's rules for it.

use miner_node::egress::request::{LONGEST_HEAD, parse};
use miner_node::egress::rule::{Host, Target};
use miner_node::egress::{Rule, Rules};

/// The head of a request: it is a target that has one spelling, or an answer that says why not and
/// that the job cannot have written itself.
pub fn egress_request(data: &[u8]) {
    match parse(data) {
        Ok(None) => assert!(data.len() < LONGEST_HEAD),
        Ok(Some(connect)) => {
            assert!((1..=LONGEST_HEAD.min(data.len())).contains(&connect.length));
            assert!(
                data.starts_with(b"CONNECT ")
                    || data.starts_with(b"\r\n")
                    || data.starts_with(b"\n")
            );
            // What follows does not change what was asked for.
            assert_eq!(parse(&data[..connect.length]).as_ref(), Ok(&Some(connect.clone())));
            target(&connect.target);
        }
        Err(refused) => {
            let response = refused.response();
            let head = response.windows(4).position(|end| end == b"\r\n\r\n");
            let head = &response[..head.expect("a response has a head")];
            assert!(head.starts_with(b"HTTP/1.1 4"));
            assert_eq!(head.iter().filter(|byte| **byte == b'\n').count(), 3);
        }
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(rule) = text.parse::<Rule>()
    {
        assert_eq!(rule.to_string().parse(), Ok(rule));
    }
}

fn target(target: &Target) {
    assert_eq!(target.to_string().parse().as_ref(), Ok(target));
    assert_ne!(target.port, 0);
    if let Host::Name(name) = &target.host {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert!(name.len() <= 253 && name.bytes().all(plain));
        assert!(name.parse::<std::net::IpAddr>().is_err());
    }
    // A rule for it allows it, and one for all below it does not.
    let rule = |text: String| text.parse::<Rule>().map(|rule| Rules::new(vec![rule]));
    assert!(rule(target.to_string()).expect("a target is a rule").allow(target));
    if let Ok(below) = rule(format!("*.{target}")) {
        assert!(!below.allow(target));
    }
}
