//! From the text of a table to cases. The language is described in [`super`]; a mistake in it fails the test.

use super::case::{Case, Field, Source, Step};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How many cases a table has; one that is played with several words is one.
pub(super) fn count(table: &str) -> usize {
    table.lines().filter(|l| l.trim().starts_with('§')).count()
}

/// The cases of a table, one for each word they are played with.
pub(super) fn cases(table: &str) -> Vec<Case> {
    let lines = table.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("# "));
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in lines {
        match blocks.last_mut() {
            _ if line.starts_with('§') => blocks.push(vec![line]),
            Some(block) => block.push(line),
            None => panic!("before the first case: {line}"),
        }
    }
    blocks.iter().flat_map(|block| expand(block)).collect()
}

/// One case, or one for each word of the lines that begin with an asterisk.
fn expand(block: &[&str]) -> Vec<Case> {
    let (heading, lines) = block.split_first().expect("a heading");
    let (section, title) = heading.split_once(' ').expect("a section and a title");
    let words = lines.iter().filter_map(|line| line.strip_prefix("* "));
    let words: Vec<&str> = words.flat_map(|words| words.split(' ')).collect();
    let lines = lines.iter().filter(|line| !line.starts_with("* "));
    let lines: Vec<&str> = lines.copied().collect();
    if words.is_empty() {
        return vec![case(section, title, &lines)];
    }
    let played = words.iter().map(|word| {
        let word = word.replace('_', " ");
        let fill = |text: &str| {
            let mut filled = text.replace("{}", &word);
            for (number, part) in word.split('|').enumerate() {
                filled = filled.replace(&format!("{{{number}}}"), part);
            }
            filled
        };
        let lines: Vec<String> = lines.iter().map(|line| fill(line)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        case(section, &fill(title), &lines)
    });
    played.collect()
}

fn case(section: &str, title: &str, lines: &[&str]) -> Case {
    let (title, route) = title.split_once(" @").unwrap_or((title, "origin"));
    let mut case = Case {
        section: section.to_string(),
        title: title.to_string(),
        route: route.to_string(),
        steps: Vec::new(),
    };
    // Whether the next `>` begins a step.
    let mut ended = true;
    for line in lines {
        let (mark, items) = line.split_once(' ').unwrap_or((line, ""));
        let opens = case.steps.is_empty() || (ended && mark == ">");
        if opens {
            let mut step = Step::default();
            step.ask.method = "GET".to_string();
            case.steps.push(step);
        }
        let in_order = opens || !ended || mark == "=";
        assert!(in_order, "after the end of a step: {line}");
        ended = mark == "=";
        for item in items.split(" | ").map(str::trim) {
            let step = case.steps.last_mut().expect("a step");
            match mark {
                ">" => ask(step, item),
                "<" => script(step, item),
                "=" if item == "fresh" => {
                    step.want.source = Source::Forwarded;
                    step.want.stored = Some(true);
                    case.steps.push(again(Source::Hit));
                }
                "=" if item == "not fresh" => {
                    step.want.source = Source::Forwarded;
                    case.steps.push(again(Source::Forwarded));
                }
                "=" => want(step, item),
                _ => panic!("in {section} {title}: {line}"),
            }
        }
    }
    assert!(ended, "nothing must be seen: {section} {title}");
    case
}

/// A second GET.
fn again(source: Source) -> Step {
    let mut step = Step::default();
    step.ask.method = "GET".to_string();
    step.want.source = source;
    step
}

fn ask(step: &mut Step, item: &str) {
    if let Some(field) = field(item) {
        step.ask.fields.push(field);
        return;
    }
    let (method, suffix) = item.split_once(' ').unwrap_or((item, ""));
    step.ask.method = method.to_string();
    step.ask.suffix = suffix.to_string();
}

fn script(step: &mut Step, item: &str) {
    let script = &mut step.script;
    script.expected = true;
    if let Some(field) = field(item) {
        script.fields.push(field);
        return;
    }
    let (word, rest) = item.split_once(' ').unwrap_or((item, ""));
    match word {
        "undated" => script.undated = true,
        "body" => script.body = Some(rest.to_string()),
        "confirms" => script.confirms = true,
        "resource" => script.resource = true,
        "reset" => script.reset = true,
        "cut" => script.cut = Some(number(rest)),
        "late" => script.late = Duration::from_millis(number(rest)),
        "chunked" => script.chunked = true,
        "trailer" => script.trailers.push(rest.to_string()),
        "interim" => script.interim.push(rest.to_string()),
        _ => script.status = Some(number(item)),
    }
}

fn want(step: &mut Step, item: &str) {
    let want = &mut step.want;
    if let Some(rest) = item.strip_prefix("sent ") {
        match (field(rest), rest.strip_prefix("no ")) {
            (Some(field), _) => want.sent.push(field),
            (None, Some(name)) => want.not_sent.push(name.to_string()),
            (None, None) => want.sent_method = Some(rest.to_string()),
        }
        return;
    }
    if let Some(field) = field(item) {
        want.shows.push(field);
        return;
    }
    let (word, rest) = item.split_once(' ').unwrap_or((item, ""));
    match word {
        "any" => want.source = Source::Any,
        "hit" => want.source = Source::Hit,
        "background" => want.source = Source::Background,
        "stands-in" => want.source = Source::StandsIn,
        "forwarded" => want.source = Source::Forwarded,
        "stored" | "not-stored" => {
            want.source = Source::Forwarded;
            want.stored = Some(word == "stored");
        }
        "validated" => want.source = Source::Validated,
        "error" => want.source = Source::Error,
        "unasked" => want.source = Source::Unasked,
        "of" => want.of = Some(number(rest)),
        "status" => want.status = Some(number(rest)),
        "body" => want.body = Some(rest.to_string()),
        "fwd" => want.reasons = Some(rest.to_string()),
        "age" => want.age = Some(range(rest)),
        "asked" => want.asked = Some(range(rest)),
        "interim" if rest == "none" => want.interim = Some(Vec::new()),
        "interim" => want.interim = Some(rest.split(' ').map(number).collect()),
        "no" => want.lacks.push(rest.to_string()),
        "broken" => want.broken = true,
        "distinct" => want.distinct = true,
        "check" => want.check = Some(rest.to_string()),
        "eventually" => step.ask.eventually = true,
        "together" => step.ask.together = number(rest),
        _ => panic!("nothing that can be seen: {item}"),
    }
}

/// `Name: value`, if it is that.
fn field(item: &str) -> Option<Field> {
    let (name, value) = item.split_once(':')?;
    let plain = !name.is_empty() && !name.contains(' ');
    plain.then(|| (name.to_string(), value.trim().to_string()))
}

fn number<T: FromStr>(text: &str) -> T {
    let number = text.parse().ok();
    number.unwrap_or_else(|| panic!("no number: {text:?}"))
}

/// `3` or `3..5`.
fn range<T: FromStr + Clone>(text: &str) -> RangeInclusive<T> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    number(from)..=number(to)
}
