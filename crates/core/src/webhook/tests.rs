//! Requests in, messages or refusals out.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidemill_types::{
    Timestamp,
    flow::{FlowDuration, SignatureScheme, WebhookSignature, WebhookTrigger},
    limits::{WEBHOOK_DEPTH_MAX, WEBHOOK_FORM_FIELDS_MAX, WEBHOOK_XML_ATTRIBUTES_MAX},
};

use super::*;

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

fn signed(scheme: SignatureScheme) -> WebhookTrigger {
    WebhookTrigger {
        signature: Some(WebhookSignature {
            scheme,
            ..WebhookSignature::default()
        }),
        ..WebhookTrigger::default()
    }
}

/// What checking a request gives, so many seconds after 1970.
fn check(
    scheme: SignatureScheme,
    secret: &str,
    request: &Request,
    now_seconds: i64,
) -> Result<(), SignatureError> {
    let secret = Secret::new(scheme, secret).expect("a secret");
    let signature = WebhookSignature {
        scheme,
        ..WebhookSignature::default()
    };
    verify(
        &signature,
        &secret,
        request,
        Timestamp::from_millis(now_seconds * 1_000),
    )
}

#[test]
fn standard_webhooks_published_vector() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &str = "{\"test\": 2432232314}";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const AT: i64 = 1_614_265_330;
    let scheme = SignatureScheme::StandardWebhooks;
    let request = |body: &str, id: &str, time: &str, signature: &str| {
        with(
            post("application/json", body.to_owned()),
            &[
                ("webhook-id", id),
                ("webhook-timestamp", time),
                ("webhook-signature", signature),
            ],
        )
    };
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let time = AT.to_string();
    let good = request(BODY, id, &time, SIGNATURE);
    assert_eq!(check(scheme, SECRET, &good, AT), Ok(()));
    assert_eq!(check(scheme, &SECRET[6..], &good, AT + 300), Ok(()));
    assert_eq!(check(scheme, SECRET, &good, AT - 300), Ok(()));
    let off = |seconds| {
        Err(SignatureError::TimeOff {
            seconds,
            tolerance_seconds: 300,
        })
    };
    assert_eq!(check(scheme, SECRET, &good, AT + 301), off(301));
    assert_eq!(check(scheme, SECRET, &good, AT - 301), off(301));
    for list in [
        format!("v1,AAAA v1a,xx {SIGNATURE}"),
        format!("{SIGNATURE} v1,AAAA"),
        format!("v1,AAAA, {SIGNATURE}"),
        SIGNATURE.trim_end_matches('=').to_owned(),
    ] {
        assert_eq!(
            check(scheme, SECRET, &request(BODY, id, &time, &list), AT),
            Ok(()),
            "{list}"
        );
    }
    let other_secret = "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(
        check(scheme, other_secret, &good, AT),
        Err(SignatureError::Wrong)
    );
    for bad in [
        request("{\"test\": 2432232315}", id, &time, SIGNATURE),
        request(BODY, "msg_other", &time, SIGNATURE),
        request(BODY, id, &(AT + 1).to_string(), SIGNATURE),
        request(BODY, id, &time, "v1,AAAA"),
        request(BODY, id, &time, &SIGNATURE.replace("v1,", "v2,")),
        request(BODY, id, &time, &SIGNATURE[3..]),
    ] {
        assert_eq!(check(scheme, SECRET, &bad, AT), Err(SignatureError::Wrong));
    }
    assert!(check(scheme, SECRET, &request(BODY, id, "soon", SIGNATURE), AT).is_err());
    assert!(
        check(
            scheme,
            SECRET,
            &request(BODY, id, "9223372036854775807", SIGNATURE),
            AT
        )
        .is_err()
    );
    let missing = |name: &str| Err(SignatureError::Missing(name.into()));
    assert_eq!(
        check(scheme, SECRET, &request(BODY, "", &time, SIGNATURE), AT),
        missing("webhook-id")
    );
    assert_eq!(check(scheme, SECRET, &get(""), AT), missing("webhook-id"));
}

#[test]
fn github_published_vector() {
    const SECRET: &str = "It's a Secret to Everybody";
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let scheme = SignatureScheme::Github;
    let request = |body: &str, signature: &str| {
        with(
            post("text/plain", body.to_owned()),
            &[("X-Hub-Signature-256", signature)],
        )
    };
    assert_eq!(
        check(scheme, SECRET, &request("Hello, World!", SIGNATURE), 0),
        Ok(())
    );
    let upper = format!("sha256={}", SIGNATURE[7..].to_uppercase());
    assert_eq!(
        check(scheme, SECRET, &request("Hello, World!", &upper), 0),
        Ok(())
    );
    assert_eq!(
        check(scheme, SECRET, &request("Hello, World?", SIGNATURE), 0),
        Err(SignatureError::Wrong)
    );
    assert_eq!(
        check(scheme, "x", &request("Hello, World!", SIGNATURE), 0),
        Err(SignatureError::Wrong)
    );
    for malformed in [
        &SIGNATURE[7..],
        "sha256=",
        "sha1=757107ea",
        &SIGNATURE[..70],
        &SIGNATURE.replace('7', "ü"),
    ] {
        let refused = check(scheme, SECRET, &request("Hello, World!", malformed), 0);
        assert!(
            matches!(refused, Err(SignatureError::Malformed { .. })),
            "{malformed}"
        );
    }
    // A query is what a GET brings, so that is what is signed.
    let query = Request {
        query: "Hello, World!".into(),
        ..get("")
    };
    assert_eq!(
        check(
            scheme,
            SECRET,
            &with(query.clone(), &[("x-hub-signature-256", SIGNATURE)]),
            0
        ),
        Ok(())
    );
    assert!(check(scheme, SECRET, &query, 0).is_err());
}

fn hmac(secret: &[u8], text: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).expect("any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn stripe() {
    const AT: i64 = 1_492_774_577;
    let scheme = SignatureScheme::Stripe;
    let right = hex(&hmac(b"whsec_test", format!("{AT}.{{}}").as_bytes()));
    let wrong = "0".repeat(64);
    let request = |header: &str| {
        with(
            post("application/json", "{}"),
            &[("stripe-signature", header)],
        )
    };
    for header in [
        format!("t={AT},v1={right}"),
        format!("t={AT}, v1={wrong}, v1={right}, v0={wrong}"),
        format!("v1={right},t={AT}"),
    ] {
        assert_eq!(
            check(scheme, "whsec_test", &request(&header), AT + 300),
            Ok(()),
            "{header}"
        );
        assert!(check(scheme, "whsec_test", &request(&header), AT + 301).is_err());
        assert!(check(scheme, "test", &request(&header), AT).is_err());
    }
    for header in [
        format!("t={AT},v0={right}"),
        format!("t={},v1={right}", AT + 1),
        format!("v1={right}"),
        format!("t=x,v1={right}"),
        format!("t={AT},v1={wrong}"),
        String::new(),
    ] {
        assert!(
            check(scheme, "whsec_test", &request(&header), AT).is_err(),
            "{header}"
        );
    }
}

#[test]
fn oih() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let scheme = SignatureScheme::Oih;
    let digest = hmac(b"key", b"{\"a\":1}");
    let request = |header: &str| with(post("application/json", "{\"a\":1}"), &[("x-hmac", header)]);
    for right in [
        STANDARD.encode(&digest),
        hex(&digest),
        format!("sha256={}", hex(&digest)),
        format!("sha256={}", STANDARD.encode(&digest)),
    ] {
        assert_eq!(check(scheme, "key", &request(&right), 0), Ok(()), "{right}");
        assert_eq!(
            check(scheme, "other", &request(&right), 0),
            Err(SignatureError::Wrong)
        );
    }
    for wrong in [
        "",
        "!",
        "AAAA",
        &hex(&digest[..31]),
        &hex(&hmac(b"key", b"{}")),
    ] {
        assert!(check(scheme, "key", &request(wrong), 0).is_err(), "{wrong}");
    }
    let own = WebhookSignature {
        scheme,
        header: Some("x-acme".into()),
        tolerance: Some(FlowDuration::from_ms(1)),
        ..WebhookSignature::default()
    };
    let secret = Secret::new(scheme, "key").expect("a secret");
    let header = STANDARD.encode(&digest);
    let request = with(
        post("application/json", "{\"a\":1}"),
        &[("X-Acme", &header)],
    );
    assert_eq!(
        verify(&own, &secret, &request, Timestamp::from_millis(0)),
        Ok(())
    );
}

#[test]
fn secrets_that_are_none() {
    for (_, scheme) in SignatureScheme::ALL {
        assert_eq!(Secret::new(scheme, " \n").err(), Some(SecretError::Empty));
    }
    let standard = SignatureScheme::StandardWebhooks;
    assert_eq!(
        Secret::new(standard, "whsec_").err(),
        Some(SecretError::Empty)
    );
    assert_eq!(
        Secret::new(standard, "whsec_???").err(),
        Some(SecretError::NotBase64)
    );
    let secret = Secret::new(SignatureScheme::Oih, "key").expect("a secret");
    assert!(!format!("{secret:?}").contains("key"));
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
