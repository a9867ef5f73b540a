//! Money and measured work as fixed-point integers of 10^-9, never as floats.
//!
//! On the wire both are decimal strings without exponent and without trailing zeros (`"0.23692"`).
//! The price rule, `floor(units x unit_price)` to 10^-9, is [`Units::price`] and exists only here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many steps of the smallest unit make one whole.
const SCALE: i64 = 1_000_000_000;

/// Why a decimal string was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the form `-?digits[.digits]`.
    #[error("not a plain decimal number")]
    Syntax,
    /// More than nine digits after the point.
    #[error("more than 9 digits after the decimal point")]
    TooPrecise,
    /// Outside the range of 64 bits of 10^-9.
    #[error("out of range")]
    Range,
}

fn parse(text: &str) -> Result<i64, AmountError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return Err(AmountError::Syntax);
    }
    if fraction.len() > 9 {
        return Err(AmountError::TooPrecise);
    }
    let whole: i64 = whole.parse().map_err(|_| AmountError::Range)?;
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| AmountError::Syntax)?;
    let nanos =
        whole.checked_mul(SCALE).and_then(|n| n.checked_add(fraction)).ok_or(AmountError::Range)?;
    Ok(if negative { -nanos } else { nanos })
}

fn print(nanos: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, fraction) =
        (nanos.unsigned_abs() / SCALE as u64, nanos.unsigned_abs() % SCALE as u64);
    if fraction == 0 {
        return write!(f, "{sign}{whole}");
    }
    let digits = format!("{fraction:09}");
    write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
}

macro_rules! fixed_point {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(i64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);
            /// The largest value that can be stated.
            pub const MAX: Self = Self(i64::MAX);

            /// From a count of 10^-9 steps.
            pub const fn from_nanos(nanos: i64) -> Self {
                Self(nanos)
            }

            /// As a count of 10^-9 steps.
            pub const fn nanos(self) -> i64 {
                self.0
            }

            /// Whether the value is below zero.
            pub const fn is_negative(self) -> bool {
                self.0 < 0
            }

            /// Sum, or `None` where it leaves the range.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, or `None` where it leaves the range.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// The value with the opposite sign, or `None` for the one value that has none.
            pub fn checked_neg(self) -> Option<Self> {
                self.0.checked_neg().map(Self)
            }
        }

        impl FromStr for $name {
            type Err = AmountError;

            fn from_str(text: &str) -> Result<Self, AmountError> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(DecimalVisitor).map(Self)
            }
        }
    };
}

/// Accepts a decimal string, and integers for the convenience of people who write JSON by hand.
struct DecimalVisitor;

impl de::Visitor<'_> for DecimalVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal string such as \"0.02\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<i64, E> {
        i64::try_from(whole)
            .ok()
            .and_then(|whole| whole.checked_mul(SCALE))
            .ok_or_else(|| E::custom(AmountError::Range))
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<i64, E> {
        whole.checked_mul(SCALE).ok_or_else(|| E::custom(AmountError::Range))
    }
}

fixed_point! {
    /// Money: an integer count of 10^-9 AITBC.
    Amount
}

fixed_point! {
    /// Measured work (seconds, tokens, fuel): an integer count of 10^-9 units.
    Units
}

impl Amount {
    /// `bp` hundredths of a per cent of it, rounded down. `None` below zero and above the whole.
    pub fn share(self, bp: u16) -> Option<Self> {
        if self.is_negative() || bp > 10_000 {
            return None;
        }
        let share = i128::from(self.0) * i128::from(bp) / 10_000;
        i64::try_from(share).ok().map(Self)
    }

    /// Itself, unless it is nothing.
    pub fn non_zero(self) -> Option<Self> {
        (self != Self::ZERO).then_some(self)
    }
}

impl Units {
    /// Whole units.
    pub fn from_whole(whole: i64) -> Option<Self> {
        whole.checked_mul(SCALE).map(Self)
    }

    /// A duration in microseconds, as seconds.
    pub fn from_micros(micros: i64) -> Option<Self> {
        micros.checked_mul(1_000).map(Self)
    }

    /// These units on `devices` devices at once, or `None` where that leaves the range.
    pub fn checked_times(self, devices: u32) -> Option<Self> {
        self.0.checked_mul(i64::from(devices)).map(Self)
    }

    /// `floor(units x unit_price)` to 10^-9; `None` for negative input or a price out of range.
    pub fn price(self, unit_price: Amount) -> Option<Amount> {
        if self.is_negative() || unit_price.is_negative() {
            return None;
        }
        let exact = i128::from(self.0) * i128::from(unit_price.0);
        i64::try_from(exact / i128::from(SCALE)).ok().map(Amount)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_price_is_exact() {
        let units: Units = "11.846".parse().unwrap();
        let unit_price: Amount = "0.02".parse().unwrap();
        assert_eq!(units.price(unit_price).unwrap().to_string(), "0.23692");
    }

    #[test]
    fn price_rounds_down() {
        let units: Units = "0.000000001".parse().unwrap();
        assert_eq!(units.price("0.999999999".parse().unwrap()), Some(Amount::ZERO));
        assert_eq!(units.price("1".parse().unwrap()), Some(Amount::from_nanos(1)));
    }

    #[test]
    fn a_share_rounds_down_and_is_never_more_than_the_whole() {
        let amount = Amount::from_nanos(9_999);
        assert_eq!(amount.share(1), Some(Amount::ZERO));
        assert_eq!(amount.share(250), Some(Amount::from_nanos(249)));
        assert_eq!(Amount::MAX.share(10_000), Some(Amount::MAX));
        assert_eq!(Amount::MAX.share(10_001), None);
        assert_eq!(Amount::from_nanos(-1).share(1), None);
    }

    #[test]
    fn refuses_what_is_not_plain() {
        for (text, error) in [
            ("", AmountError::Syntax),
            ("-", AmountError::Syntax),
            (".5", AmountError::Syntax),
            ("5.", AmountError::Syntax),
            ("1e3", AmountError::Syntax),
            ("+1", AmountError::Syntax),
            ("1.2.3", AmountError::Syntax),
            ("0.0000000001", AmountError::TooPrecise),
            ("9223372037", AmountError::Range),
        ] {
            assert_eq!(text.parse::<Amount>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn json_takes_strings_and_integers_but_no_floats() {
        assert_eq!(serde_json::from_str::<Amount>("\"0.5\"").unwrap().nanos(), 500_000_000);
        assert_eq!(serde_json::from_str::<Amount>("5").unwrap().to_string(), "5");
        assert!(serde_json::from_str::<Amount>("0.5").is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(nanos in -i64::MAX..=i64::MAX) {
            let amount = Amount::from_nanos(nanos);
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }

        #[test]
        fn price_never_exceeds_the_product(units in 0..=1_000_000_000_000_000i64, price in 0..=1_000_000_000i64) {
            let paid = Units::from_nanos(units).price(Amount::from_nanos(price)).unwrap();
            let exact = i128::from(units) * i128::from(price);
            prop_assert!(i128::from(paid.nanos()) * 1_000_000_000 <= exact);
            prop_assert!((i128::from(paid.nanos()) + 1) * 1_000_000_000 > exact);
        }
    }
}
