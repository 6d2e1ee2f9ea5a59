//! Source text to tokens. Must never look further than one token: whether `/` divides or starts a regular
//! expression is the parser's knowledge.

use crate::error::ParseError;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Name(String),
    Variable(String),
    Operator(&'static str),
    String(String),
    Number(f64),
    Bool(bool),
    Null,
    /// Pattern and flags.
    Regex(String, String),
    End,
}

/// Longest first, so that `~>` is not read as `~`.
const OPERATORS: [&str; 35] = [
    "..", ":=", "!=", ">=", "<=", "**", "~>", "?:", "??", ".", "[", "]", "{", "}", "(", ")", ",",
    "@", "#", ";", ":", "?", "+", "-", "*", "/", "%", "|", "=", "<", ">", "^", "&", "!", "~",
];

pub(crate) struct Tokenizer {
    source: Vec<char>,
    position: usize,
}

impl Tokenizer {
    pub fn new(source: &str) -> Self {
        Self {
            source: source.chars().collect(),
            position: 0,
        }
    }

    fn at(&self, position: usize) -> Option<char> {
        self.source.get(position).copied()
    }

    fn text(&self, from: usize, to: usize) -> String {
        self.source[from..to].iter().collect()
    }

    /// The next token and its position. With `infix`, `/` divides.
    pub fn next(&mut self, infix: bool) -> Result<(Token, usize), ParseError> {
        self.skip_blanks()?;
        let start = self.position;
        let Some(current) = self.at(start) else {
            return Ok((Token::End, self.source.len()));
        };
        if current == '/' && !infix {
            self.position += 1;
            return Ok((self.regex()?, start));
        }
        if let Some(operator) = self.operator() {
            self.position += operator.chars().count();
            return Ok((Token::Operator(operator), start));
        }
        let token = match current {
            '"' | '\'' => self.string(current)?,
            '0'..='9' => self.number()?,
            '`' => self.quoted_name()?,
            _ => self.name(),
        };
        Ok((token, start))
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            while self.at(self.position).is_some_and(is_blank) {
                self.position += 1;
            }
            if self.at(self.position) != Some('/') || self.at(self.position + 1) != Some('*') {
                return Ok(());
            }
            let start = self.position;
            self.position += 2;
            while !(self.at(self.position) == Some('*') && self.at(self.position + 1) == Some('/'))
            {
                if self.position >= self.source.len() {
                    return Err(ParseError::new(
                        start,
                        "S0106: the comment has no closing */",
                    ));
                }
                self.position += 1;
            }
            self.position += 2;
        }
    }

    fn operator(&self) -> Option<&'static str> {
        let (first, second) = (self.at(self.position)?, self.at(self.position + 1));
        OPERATORS.into_iter().find(|operator| {
            let mut characters = operator.chars();
            characters.next() == Some(first)
                && match characters.next() {
                    None => true,
                    expected => expected == second,
                }
        })
    }

    fn string(&mut self, quote: char) -> Result<Token, ParseError> {
        let start = self.position;
        self.position += 1;
        let mut text = String::new();
        while let Some(current) = self.at(self.position) {
            self.position += 1;
            if current == quote {
                return Ok(Token::String(text));
            }
            if current == '\\' {
                text.push(self.escape()?);
            } else {
                text.push(current);
            }
        }
        Err(ParseError::new(
            start,
            "S0101: the string has no closing quote",
        ))
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let at = self.position;
        self.position += 1;
        match self.at(at) {
            Some(plain @ ('"' | '\\' | '/')) => Ok(plain),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => self.unicode_escape(at),
            Some(other) => Err(ParseError::new(
                at,
                format!("S0103: unknown escape sequence \\{other} in a string"),
            )),
            None => Err(ParseError::new(
                at,
                "S0101: the string has no closing quote",
            )),
        }
    }

    fn unicode_escape(&mut self, at: usize) -> Result<char, ParseError> {
        let high = self.four_digits(at)?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high).ok_or_else(|| {
                ParseError::new(at, "S0104: \\u must not be half of a surrogate pair")
            });
        }
        // UTF-16 writes what lies beyond \uFFFF as two halves; text here is UTF-8 and has no halves.
        if self.at(self.position) == Some('\\') && self.at(self.position + 1) == Some('u') {
            self.position += 2;
            let low = self.four_digits(at)?;
            if (0xDC00..0xE000).contains(&low) {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return char::from_u32(code)
                    .ok_or_else(|| ParseError::new(at, "S0104: \\u names no character"));
            }
        }
        Err(ParseError::new(
            at,
            "S0104: \\u must not be half of a surrogate pair",
        ))
    }

    fn four_digits(&mut self, at: usize) -> Result<u32, ParseError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.at(self.position).and_then(|digit| digit.to_digit(16));
            let Some(digit) = digit else {
                return Err(ParseError::new(
                    at,
                    "S0104: \\u must be followed by four hexadecimal digits",
                ));
            };
            code = code * 16 + digit;
            self.position += 1;
        }
        Ok(code)
    }

    fn digits(&self, mut position: usize) -> usize {
        while self
            .at(position)
            .is_some_and(|digit| digit.is_ascii_digit())
        {
            position += 1;
        }
        position
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let start = self.position;
        // As in JSON a leading zero stands alone: `01` is two tokens, and so a syntax error.
        let mut end = if self.at(start) == Some('0') {
            start + 1
        } else {
            self.digits(start)
        };
        if self.at(end) == Some('.') && self.digits(end + 1) > end + 1 {
            end = self.digits(end + 1);
        }
        if matches!(self.at(end), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.at(end + 1), Some('+' | '-')));
            let exponent = end + 1 + sign;
            if self.digits(exponent) > exponent {
                end = self.digits(exponent);
            }
        }
        self.position = end;
        let text = self.text(start, end);
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Token::Number(number)),
            _ => Err(ParseError::new(
                start,
                format!("S0102: the number {text} is out of range"),
            )),
        }
    }

    fn quoted_name(&mut self) -> Result<Token, ParseError> {
        let start = self.position + 1;
        let mut end = start;
        while self.at(end) != Some('`') {
            if end >= self.source.len() {
                return Err(ParseError::new(
                    start - 1,
                    "S0105: the quoted name has no closing backquote",
                ));
            }
            end += 1;
        }
        self.position = end + 1;
        Ok(Token::Name(self.text(start, end)))
    }

    fn name(&mut self) -> Token {
        let start = self.position;
        while let Some(current) = self.at(self.position) {
            if is_blank(current) || self.operator().is_some() {
                break;
            }
            self.position += 1;
        }
        if self.at(start) == Some('$') {
            return Token::Variable(self.text(start + 1, self.position));
        }
        let name = self.text(start, self.position);
        match name.as_str() {
            "and" => Token::Operator("and"),
            "or" => Token::Operator("or"),
            "in" => Token::Operator("in"),
            "true" => Token::Bool(true),
            "false" => Token::Bool(false),
            "null" => Token::Null,
            _ => Token::Name(name),
        }
    }

    fn regex(&mut self) -> Result<Token, ParseError> {
        let start = self.position;
        let mut depth = 0_i32;
        while let Some(current) = self.at(self.position) {
            let escaped = self.position > start && self.at(self.position - 1) == Some('\\');
            if current == '/' && depth == 0 && !self.after_odd_backslashes(start) {
                let pattern = self.text(start, self.position);
                if pattern.is_empty() {
                    return Err(ParseError::new(
                        start,
                        "S0301: the regular expression is empty",
                    ));
                }
                self.position += 1;
                let flags_start = self.position;
                while matches!(self.at(self.position), Some('i' | 'm')) {
                    self.position += 1;
                }
                return Ok(Token::Regex(pattern, self.text(flags_start, self.position)));
            }
            match current {
                '(' | '[' | '{' if !escaped => depth += 1,
                ')' | ']' | '}' if !escaped => depth -= 1,
                _ => {}
            }
            self.position += 1;
        }
        Err(ParseError::new(
            start - 1,
            "S0302: the regular expression has no closing /",
        ))
    }

    fn after_odd_backslashes(&self, start: usize) -> bool {
        let mut count = 0;
        while self.position > start + count && self.at(self.position - count - 1) == Some('\\') {
            count += 1;
        }
        count % 2 == 1
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}')
}
