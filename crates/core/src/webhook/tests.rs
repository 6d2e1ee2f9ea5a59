//! Requests in, messages or refusals out.

mod signatures;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidemill_types::{
    Timestamp,
    flow::{FlowDuration, SignatureScheme, WebhookSignature, WebhookTrigger},
    limits::{WEBHOOK_DEPTH_MAX, WEBHOOK_FORM_FIELDS_MAX, WEBHOOK_XML_ATTRIBUTES_MAX},
};

use super::*;
use signatures::{check, signed};

const BYTES_MAX: usize = 1024 * 1024;

fn get(query: &str) -> Request {
    Request {
        method: Method::Get,
        suffix: String::new(),
        query: query.into(),
        headers: Headers::default(),
        body: Bytes::new(),
    }
}

fn post(content_type: &str, body: impl Into<Bytes>) -> Request {
    Request {
        method: Method::Post,
        headers: Headers::from_iter([("Content-Type", content_type)]),
        body: body.into(),
        ..get("")
    }
}

fn with(mut request: Request, headers: &[(&str, &str)]) -> Request {
    let content_type = request.headers.get("content-type").map(str::to_owned);
    request.headers = headers
        .iter()
        .copied()
        .chain(content_type.as_deref().map(|value| ("content-type", value)))
        .collect();
    request
}

fn message_of(request: &Request) -> Result<MessageRow, WebhookError> {
    message(request, &WebhookTrigger::default(), BYTES_MAX)
}

fn data(request: &Request) -> Value {
    let message = message_of(request).expect("a message");
    serde_json::from_slice(&message.data).expect("data is JSON")
}

fn status(request: &Request) -> u16 {
    message_of(request).expect_err("is refused").status()
}

#[test]
fn json_stays_as_it_came() {
    let body = "\u{feff} {\"n\": 1.0000000000000000000001, \"n\": 2}\n";
    for kind in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "text/json",
        "application/cloudevents+json",
    ] {
        let message = message_of(&post(kind, body)).expect(kind);
        assert_eq!(
            message.data, "{\"n\": 1.0000000000000000000001, \"n\": 2}",
            "{kind}"
        );
        assert!(message.attachments.is_empty());
    }
    assert_eq!(data(&post("application/json", "")), json!({}));
    assert_eq!(data(&post("application/json", "[null]")), json!([null]));
}

#[test]
fn bad_json_is_refused() {
    for body in ["{", "{} {}", "{'a':1}", "\"\\ud800\"", "1e999", "nul"] {
        assert_eq!(status(&post("application/json", body)), 400, "{body}");
    }
    assert_eq!(
        status(&post("application/json", vec![b'"', 0xe9, b'"'])),
        400
    );
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(message_of(&post("application/json", nested(WEBHOOK_DEPTH_MAX))).is_ok());
    assert_eq!(
        status(&post("application/json", nested(WEBHOOK_DEPTH_MAX + 1))),
        400
    );
    assert_eq!(
        status(&post("application/json", "[".repeat(BYTES_MAX))),
        400
    );
}

#[test]
fn plain_text_is_json_or_a_text() {
    for (body, expected) in [
        ("{\"a\": 1}", json!({"a": 1})),
        ("hello", json!("hello")),
        ("", json!("")),
        ("a\nb ", json!("a\nb ")),
        ("12", json!(12)),
    ] {
        assert_eq!(data(&post("text/plain", body)), expected, "{body}");
    }
}

#[test]
fn forms_and_queries() {
    for (form, expected) in [
        ("", json!({})),
        (
            "a=1&b=x+y&c=%C3%BC%26",
            json!({"a": "1", "b": "x y", "c": "ü&"}),
        ),
        ("a", json!({"a": ""})),
        ("a=b=c", json!({"a": "b=c"})),
        ("&&a=1&", json!({"a": "1"})),
        ("x=1&x=2&x=3", json!({"x": ["1", "2", "3"]})),
        (
            "a[b]=1&a[c][d]=2",
            json!({"a": {"b": "1", "c": {"d": "2"}}}),
        ),
        ("a%5Bb%5D=1", json!({"a": {"b": "1"}})),
        ("a[]=1&a[]=2", json!({"a": ["1", "2"]})),
        ("a[]=1", json!({"a": ["1"]})),
        ("a[1]=y&a[0]=x", json!({"a": ["x", "y"]})),
        (
            "a[0][b]=1&a[0][c]=2&a[1][b]=3",
            json!({"a": [{"b": "1", "c": "2"}, {"b": "3"}]}),
        ),
        ("a[][b]=1&a[][b]=2", json!({"a": [{"b": "1"}, {"b": "2"}]})),
        ("a[21]=x", json!({"a": {"21": "x"}})),
        ("a[01]=x", json!({"a": {"01": "x"}})),
        ("0=x&1=y", json!({"0": "x", "1": "y"})),
        ("a[0]=x&a[k]=y", json!({"a": {"0": "x", "k": "y"}})),
        ("a=1&a[b]=2", json!({"a": ["1", {"b": "2"}]})),
        ("a[b]=1&a=2", json!({"a": [{"b": "1"}, "2"]})),
        ("a[]=1&a[0]=2", json!({"a": ["1", "2"]})),
        ("a[b=1", json!({"a[b": "1"})),
        ("a[b]c=1", json!({"a[b]c": "1"})),
        ("[a]=1", json!({"a": "1"})),
        ("=1", json!({"": "1"})),
        ("a=100%", json!({"a": "100%"})),
        ("a=%zz", json!({"a": "%zz"})),
        ("__proto__[x]=1", json!({"__proto__": {"x": "1"}})),
    ] {
        assert_eq!(data(&get(form)), expected, "query {form}");
        let request = post("application/x-www-form-urlencoded", form.to_owned());
        assert_eq!(data(&request), expected, "form {form}");
    }
}

#[test]
fn forms_over_a_limit_or_not_utf_8_are_refused() {
    assert_eq!(status(&get("a=%FF")), 400);
    let key = |depth: usize| format!("a{}=1", "[b]".repeat(depth));
    assert!(message_of(&get(&key(WEBHOOK_DEPTH_MAX - 1))).is_ok());
    assert_eq!(status(&get(&key(WEBHOOK_DEPTH_MAX))), 400);
    assert!(message_of(&get(&"a=1&".repeat(WEBHOOK_FORM_FIELDS_MAX))).is_ok());
    assert_eq!(
        status(&get(&"a=1&".repeat(WEBHOOK_FORM_FIELDS_MAX + 1))),
        400
    );
}

#[test]
fn xml() {
    for (xml, expected) in [
        ("<a>t</a>", json!({"a": "t"})),
        ("<a/>", json!({"a": ""})),
        (
            "<?xml version=\"1.0\"?>\n<!-- c -->\n<a>\n <b>1</b>\n</a>\n",
            json!({"a": {"b": "1"}}),
        ),
        (
            "<a><b>1</b><b>2</b><c/></a>",
            json!({"a": {"b": ["1", "2"], "c": ""}}),
        ),
        (
            "<a x='1' y=\"&lt;&#65;\">t</a>",
            json!({"a": {"_attr": {"x": "1", "y": "<A"}, "_": "t"}}),
        ),
        ("<a x='1'/>", json!({"a": {"_attr": {"x": "1"}}})),
        ("<a>t<b/>u</a>", json!({"a": {"b": "", "_": "tu"}})),
        ("<a>&amp;&#x41;<![CDATA[<&>]]></a>", json!({"a": "&A<&>"})),
        ("<a>  </a>", json!({"a": "  "})),
        (
            "<s:Envelope xmlns:s='urn:x'><s:Body s:id='7'>ü</s:Body></s:Envelope>",
            json!({"s-Envelope": {"_attr": {"xmlns:s": "urn:x"}, "s-Body": {"_attr": {"s:id": "7"}, "_": "ü"}}}),
        ),
    ] {
        for kind in [
            "application/xml",
            "text/xml; charset=utf-8",
            "application/soap+xml",
        ] {
            assert_eq!(data(&post(kind, xml)), expected, "{xml}");
        }
    }
}

#[test]
fn bad_xml_is_refused() {
    let attributes = |count: usize| {
        let list: String = (0..count).map(|n| format!(" a{n}='1'")).collect();
        format!("<a{list}/>")
    };
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(message_of(&post("text/xml", attributes(WEBHOOK_XML_ATTRIBUTES_MAX))).is_ok());
    assert!(message_of(&post("text/xml", nested(WEBHOOK_DEPTH_MAX))).is_ok());
    for xml in [
        "",
        "hello",
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a/><a/>",
        "<a/>text",
        "<a>&bomb;</a>",
        "<a x='&bomb;'/>",
        "<a x='1' x='2'/>",
        "<a x=1/>",
        "<!DOCTYPE a [<!ENTITY bomb 'x'>]><a/>",
        "<?xml version='1.0' encoding='ISO-8859-1'?><a>ü</a>",
        &attributes(WEBHOOK_XML_ATTRIBUTES_MAX + 1),
        &nested(WEBHOOK_DEPTH_MAX + 1),
    ] {
        assert_eq!(status(&post("text/xml", xml.to_owned())), 400, "{xml:.60}");
    }
}

#[test]
fn other_types_are_attachments_byte_for_byte() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for kind in [
        "text/csv",
        "image/png",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
    ] {
        let request = with(post(kind, bytes.clone()), &[("content-encoding", "gzip")]);
        let message = message_of(&request).expect(kind);
        assert_eq!(message.data, "{}");
        assert_eq!(message.attachments[ATTACHMENT], bytes);
        assert_eq!(message.headers["content-type"], kind);
    }
}

#[test]
fn types_that_cannot_be_read_are_refused() {
    let untyped = Request {
        method: Method::Post,
        ..get("")
    };
    assert_eq!(status(&untyped), 415);
    for kind in [
        "",
        " ",
        "json",
        "/",
        "application/",
        "application/json; charset=latin1",
    ] {
        assert_eq!(status(&post(kind, "{}")), 415, "{kind}");
    }
    let packed = with(
        post("application/json", "{}"),
        &[("content-encoding", "gzip")],
    );
    assert_eq!(status(&packed), 415);
}

#[test]
fn messages_over_the_limit_are_refused() {
    let request = |bytes| post("application/json", format!("\"{}\"", "x".repeat(bytes)));
    assert_eq!(status(&request(BYTES_MAX)), 413);
    assert!(message_of(&request(BYTES_MAX / 2)).is_ok());
}

#[test]
fn headers_without_credentials() {
    let request = with(
        post("application/json", "{}"),
        &[
            ("Authorization", "Bearer x"),
            ("Cookie", "a=b"),
            ("Proxy-Authorization", "x"),
            ("X-Api-Key", "k"),
            ("X-Trace", "1"),
            ("x-trace", "2"),
            ("X-HMAC", "abc"),
        ],
    );
    let shown = message_of(&request).expect("a message").headers;
    let names: Vec<&str> = shown.keys().map(String::as_str).collect();
    assert_eq!(names, ["content-type", "x-hmac", "x-trace"]);
    assert_eq!(shown["x-trace"], "1, 2");
    let trigger = signed(SignatureScheme::Oih);
    let shown = message(&request, &trigger, BYTES_MAX)
        .expect("a message")
        .headers;
    assert!(!shown.contains_key("x-hmac"));
    let latin = Headers::from_iter([("a", [0xe9])]);
    assert_eq!(latin.get("a"), Some("é"));
}

#[test]
fn metadata_says_where_it_came_from() {
    let mut request = post("application/json", "{}");
    request.suffix = "orders".into();
    request.query = "a[b]=1".into();
    let metadata = |request: &Request| -> Value {
        let message = message_of(request).expect("a message");
        serde_json::from_slice(&message.metadata).expect("metadata is JSON")
    };
    let source = json!({"name": "webhooks", "type": "webhook"});
    assert_eq!(
        metadata(&request),
        json!({"source": source, "method": "POST", "pathSuffix": "orders", "query": {"a": {"b": "1"}}})
    );
    assert_eq!(
        metadata(&get("a=1")),
        json!({"source": source, "method": "GET"})
    );
    assert_eq!(
        status(&Request {
            body: Bytes::from_static(b"x"),
            ..get("")
        }),
        400
    );
}

#[test]
fn request_ids() {
    let all = [
        ("x-request-id", "r"),
        ("idempotency-key", "k"),
        ("webhook-id", "w"),
    ];
    let id = |count: usize, scheme: Option<SignatureScheme>| {
        let trigger = scheme.map(signed).unwrap_or_default();
        let request = with(get(""), &all[..count]);
        request.request_id(&trigger).map(str::to_owned)
    };
    assert_eq!(id(0, None), None);
    assert_eq!(id(1, None).as_deref(), Some("r"));
    assert_eq!(id(3, None).as_deref(), Some("k"));
    assert_eq!(
        id(3, Some(SignatureScheme::StandardWebhooks)).as_deref(),
        Some("w")
    );
    assert_eq!(id(3, Some(SignatureScheme::Github)).as_deref(), Some("k"));
}

fn any_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/json".to_owned()),
        Just("application/xml".to_owned()),
        Just("application/x-www-form-urlencoded".to_owned()),
        Just("text/plain".to_owned()),
        ".{0,20}",
    ]
}

/// Bytes near what the parsers look for.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        "[\\[\\]{}\",:0-9a-e.\\\\ -]{1,6}",
        "[<>/a-c!?=' &;#x-]{1,6}",
        "(<a>|</a>|<a/>|<a |<!\\[CDATA\\[|\\]\\]>|&#|&lt;|<!--|-->|<\\?)",
        "[a-c0-9\\[\\]=&%+]{1,8}",
    ]
    .prop_map(String::into_bytes);
    let raw = proptest::collection::vec(any::<u8>(), 0..6);
    proptest::collection::vec(prop_oneof![6 => token, 1 => raw], 0..12)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_request_gives_json_or_a_refusal(
        content_type in any_type(),
        body in any_body(),
        query in ".{0,40}",
        headers in proptest::collection::vec(("[a-zA-Z-]{0,10}", any_body()), 0..4),
    ) {
        let mut request = post(&content_type, body);
        request.query = query;
        request.headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .chain([("content-type", content_type.as_bytes())])
            .collect();
        if let Ok(message) = message_of(&request) {
            prop_assert!(serde_json::from_slice::<Value>(&message.data).is_ok());
            prop_assert!(serde_json::from_slice::<Value>(&message.metadata).is_ok());
        }
        request.method = Method::Get;
        request.body = Bytes::new();
        if let Ok(message) = message_of(&request) {
            prop_assert!(serde_json::from_slice::<Value>(&message.data).is_ok());
        }
    }

    #[test]
    fn no_header_makes_a_signature(header in any_body(), time in any_body(), body in any_body()) {
        for (_, scheme) in SignatureScheme::ALL {
            let mut request = post("text/plain", body.clone());
            request.headers = [
                ("webhook-id", header.as_slice()),
                ("webhook-timestamp", time.as_slice()),
                ("webhook-signature", header.as_slice()),
                ("x-hub-signature-256", header.as_slice()),
                ("stripe-signature", header.as_slice()),
                ("x-hmac", header.as_slice()),
            ]
            .into_iter()
            .collect();
            prop_assert!(check(scheme, "c2VjcmV0", &request, 0).is_err());
        }
    }

    #[test]
    fn forms_of_plain_fields_come_out_as_they_went_in(
        fields in proptest::collection::btree_map("[a-zA-Z0-9ü .]{1,8}", ".{0,12}", 0..8),
    ) {
        let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let form: Vec<String> =
            fields.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
        prop_assert_eq!(data(&get(&form.join("&"))), json!(fields));
    }
}
