//! The number of the history's newest texts that are not trained on, so that calibration can choose on them.

use crate::home::NoCalibration;
use crate::{Error, Result};

/// The fewest texts of a history of which some are held out unless a number is given.
const LEAST_HISTORY: usize = 40;
/// The fewest texts that are held out unless a number is given.
const LEAST_HELD_OUT: usize = 8;
/// One of so many texts is held out unless a number is given.
const ONE_OF: usize = 10;

/// The texts that a training holds out for calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldOut {
    /// So many of the newest texts.
    Texts(usize),
    /// Nothing, for this reason.
    Nothing(NoCalibration),
}

impl HoldOut {
    /// The texts to hold out of a history of `n_texts`: `asked` of them, or with `None` as many as its length allows.
    ///
    /// # Errors
    /// No text would be left to train on.
    pub fn new(asked: Option<usize>, n_texts: usize) -> Result<Self> {
        match asked {
            Some(0) => Ok(Self::Nothing(NoCalibration::TurnedOff)),
            // A history without texts is an error of its own.
            Some(asked) if asked >= n_texts && n_texts > 0 => Err(Error::input(format_args!(
                "{asked} of {n_texts} texts cannot be held out: none would be left to train on"
            ))),
            Some(asked) => Ok(Self::Texts(asked)),
            None if n_texts < LEAST_HISTORY => {
                Ok(Self::Nothing(NoCalibration::TooFewTexts { n_texts }))
            }
            None => Ok(Self::Texts((n_texts / ONE_OF).max(LEAST_HELD_OUT))),
        }
    }

    /// Number of texts that are held out.
    pub fn n_texts(self) -> usize {
        match self {
            Self::Texts(n_texts) => n_texts,
            Self::Nothing(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_and_at_least_eight_texts_of_a_long_history_are_held_out() {
        for (n_texts, held_out) in [(0, 0), (39, 0), (40, 8), (89, 8), (100, 10), (1_009, 100)] {
            assert_eq!(HoldOut::new(None, n_texts).unwrap().n_texts(), held_out);
        }
        let few = HoldOut::Nothing(NoCalibration::TooFewTexts { n_texts: 39 });
        assert_eq!(HoldOut::new(None, 39).unwrap(), few);
    }

    #[test]
    fn a_number_that_is_asked_for_is_taken_unless_it_is_the_whole_history() {
        assert_eq!(HoldOut::new(Some(2), 5).unwrap(), HoldOut::Texts(2));
        let off = HoldOut::Nothing(NoCalibration::TurnedOff);
        assert_eq!(HoldOut::new(Some(0), 100).unwrap(), off);
        let error = HoldOut::new(Some(5), 5).unwrap_err();
        let refused = matches!(&error, Error::Input(reason) if reason.contains("5 of 5 texts"));
        assert!(refused, "{error}");
    }
}
