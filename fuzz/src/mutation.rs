//! Mutations of samples from a seed: the same ones on every machine, for the tests.

/// The longest input that is made.
const LONGEST: usize = 8 << 10;

/// Tokens that parsers stumble over.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"/",
    b"..",
    b"../",
    b"%00",
    b"%2f",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e400",
    b"1e-7",
    b"0.000000001",
    b"4294967295",
    b"4294967296",
    b"9223372036.854775807",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"1970-01-01T00:00:00Z",
    b"9999-12-31T23:59:60Z",
    b"${",
    b"$(hostname)",
    b"#",
    b"--",
    b"&",
    b"?",
    b"=",
    b": ",
    b"- ",
    b"*",
    b"\xc3\xa9",
    b"\xff",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
];

/// Mutations of the samples of a target.
#[derive(Debug)]
pub struct Mutations<'a> {
    samples: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Of `samples`, which must not be empty, from a seed.
    pub fn new(samples: &'a [Vec<u8>], seed: u64) -> Self {
        Self { samples, state: seed }
    }

    /// The next one: a sample after a few changes.
    pub fn make(&mut self) -> Vec<u8> {
        let mut bytes = self.sample().to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (from, to) = self.range(bytes.len());
        match self.below(8) {
            0 => drop(bytes.drain(from..to)),
            1 => bytes.truncate(from),
            2 => {
                let piece = bytes[from..to].to_vec();
                bytes.splice(to..to, piece);
            }
            3 | 4 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(from..to, token.iter().copied());
            }
            5 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(from..from, token.iter().copied());
            }
            6 => {
                let other = self.sample();
                let (start, end) = self.range(other.len());
                bytes.splice(from..to, other[start..end].iter().copied());
            }
            _ if from < bytes.len() => bytes[from] ^= 1 << self.below(8),
            _ => bytes.push(b'0'),
        }
    }

    fn sample(&mut self) -> &'a [u8] {
        let number = self.below(self.samples.len());
        &self.samples[number]
    }

    /// A piece of `len` bytes, mostly a short one.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let from = self.below(len + 1);
        let most = if self.below(4) == 0 { len } else { 12 };
        (from, (from + self.below(most + 1)).min(len))
    }

    /// A number from 0 on, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        usize::try_from(bits % bound as u64).unwrap_or(0)
    }
}
