//! The lines of a mail, and what each belongs to.

/// A line of a mail, without its marks of quotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub place: LinePlace,
    /// Whether the line goes on in the next one (RFC 3676), to which it is joined as it is.
    pub is_soft: bool,
}

/// To what part of a mail a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinePlace {
    Own,
    /// Quoted, at this depth from 1.
    Quoted(usize),
    Cut(Cut),
}

/// A part of a mail that its author did not write for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    Attribution,
    Forward,
    Signature,
    Phone,
    Footer,
    Disclaimer,
}

impl Line {
    pub fn new(text: impl Into<String>, place: LinePlace) -> Self {
        Self {
            text: text.into(),
            place,
            is_soft: false,
        }
    }

    pub fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    pub fn is_own(&self) -> bool {
        self.place == LinePlace::Own
    }

    pub fn is_quoted(&self) -> bool {
        matches!(self.place, LinePlace::Quoted(_))
    }
}

impl Cut {
    /// The plural of the parts, for counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attribution => "quotations",
            Self::Forward => "forwarded mails",
            Self::Signature => SIGNATURES,
            Self::Phone => "lines of phones",
            Self::Footer => "footers of lists and scanners",
            Self::Disclaimer => "disclaimers",
        }
    }
}

/// The name of the parts that [`Cut::Signature`] stands for.
pub(super) const SIGNATURES: &str = "signatures";
