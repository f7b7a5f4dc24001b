//! What one line becomes, or why it is rejected.

use super::*;

fn parse(line: &[u8]) -> Result<InvoiceLine, (Reason, String)> {
    Parser::default().parse(7, &Line::Whole(line)).map_err(|reject| {
        assert_eq!((reject.line, reject.text.as_slice()), (7, line));
        (reject.reason, reject.detail)
    })
}

fn reason(line: &str) -> Option<Reason> {
    parse(line.as_bytes()).err().map(|(reason, _)| reason)
}

#[test]
fn a_sale_is_taken_whole() {
    let line = parse(b"536381,82567,\"AIRLINE LOUNGE,METAL SIGN \",2,12/1/10 9:41,2.1,15311,United Kingdom")
        .unwrap();
    assert_eq!((line.invoice.as_str(), line.customer, line.quantity), ("536381", 15311, 2));
    assert_eq!(line.product.sku, "82567");
    assert_eq!((line.product.name.as_str(), line.has_name), ("AIRLINE LOUNGE,METAL SIGN", true));
    assert_eq!(line.product.price, Money::gbp(210));
    assert_eq!(line.placed_at.to_string(), "2010-12-01T09:41:00.000Z");
    assert_eq!((line.country.as_str(), line.is_cancellation()), ("United Kingdom", false));
}

#[test]
fn a_cancellation_counts_units_taken_back() {
    let line = parse(b"C536379,22556,X,-12,12/1/10 9:41,27.5,14527,EIRE").unwrap();
    assert!(line.is_cancellation());
    assert_eq!((line.quantity, line.product.price), (12, Money::gbp(2750)));
}

#[test]
fn a_product_without_a_description_is_named_by_its_code() {
    let line = parse(b"536381,82567A,  ,2,12/1/10 9:41,2,15311,Spain").unwrap();
    assert_eq!((line.product.name.as_str(), line.has_name), ("82567A", false));
}

#[test]
fn doubled_quotes_are_one() {
    let line = parse(b"536477,21137,\"RECORD FRAME 7\"\" SIZE\",48,12/1/10 12:27,3.39,16210,UK").unwrap();
    assert_eq!(line.product.name, "RECORD FRAME 7\" SIZE");
}

#[test]
fn each_rule_has_its_reason() {
    use Reason::*;
    for (line, expected) in [
        ("", Broken),
        ("537", Broken),
        ("536381,82567,X,2,12/1/10 9:41,2.1,15311", Broken),
        ("536381,82567,X,2,12/1/10 9:41,2.1,15311,UK,more", Broken),
        ("536381,82567,X,2,12/1/10 9:41,2.1,15311,UK,,,,,,", Broken),
        ("536381,82567,\"X,2,12/1/10 9:41,2.1,15311,UK", Broken),
        (",82567,X,2,12/1/10 9:41,2.1,15311,UK", BadInvoice),
        ("A563185,B,Adjust bad debt,1,8/12/11 14:50,1,15311,UK", BadInvoice),
        ("C,82567,X,-2,12/1/10 9:41,2.1,15311,UK", BadInvoice),
        ("536381,82567,X,2,12/1/10 9:41,2.1,,UK", NoCustomer),
        ("536381,82567,X,2,12/1/10 9:41,2.1,17850.0,UK", BadCustomer),
        ("536381,82567,X,2,12/1/10 9:41,2.1,017850,UK", BadCustomer),
        ("536381,82567,X,2,12/1/10 9:41,2.1,0,UK", BadCustomer),
        ("536381,82567,X,2,12/1/10 9:41,two,15311,UK", BadPrice),
        ("536381,82567,X,2,12/1/10 9:41,0.001,15311,UK", BadPrice),
        ("536381,82567,X,2,12/1/10 9:41,1e3,15311,UK", BadPrice),
        ("536381,82567,X,2,12/1/10 9:41,1000000.01,15311,UK", BadPrice),
        ("536381,82567,X,2,12/1/10 9:41,0,15311,UK", PriceNotAboveZero),
        ("536381,82567,X,2,12/1/10 9:41,0.00,15311,UK", PriceNotAboveZero),
        ("536381,82567,X,2,12/1/10 9:41,-11062.06,15311,UK", PriceNotAboveZero),
        ("536381,82567,X,2.5,12/1/10 9:41,2.1,15311,UK", BadQuantity),
        ("536381,82567,X,1000001,12/1/10 9:41,2.1,15311,UK", BadQuantity),
        ("536381,82567,X,-,12/1/10 9:41,2.1,15311,UK", BadQuantity),
        ("536381,82567,X,0,12/1/10 9:41,2.1,15311,UK", QuantityNotPositive),
        ("536381,82567,X,-1,12/1/10 9:41,2.1,15311,UK", QuantityNotPositive),
        ("C536381,82567,X,1,12/1/10 9:41,2.1,15311,UK", QuantityNotNegative),
        ("C536381,82567,X,-0,12/1/10 9:41,2.1,15311,UK", QuantityNotNegative),
        ("536381,POST,POSTAGE,1,12/1/10 9:41,2.1,15311,UK", NotAProduct),
        ("536381,C2,CARRIAGE,1,12/1/10 9:41,50,15311,UK", NotAProduct),
        ("536381,8256,X,1,12/1/10 9:41,50,15311,UK", NotAProduct),
        ("536381,82567 ,X,1,12/1/10 9:41,50,15311,UK", BadProduct),
        ("536381,82567,X,2,12/32/10 9:41,2.1,15311,UK", BadDate),
        ("536381,82567,X,2,12/1/10 9:41,2.1,15311,", BadCountry),
        ("536381,82567,X,2,12/1/10 9:41,2.1,15311, UK", BadCountry),
    ] {
        assert_eq!(reason(line), Some(expected), "{line}");
    }
    let long = format!("536381,82567,{},2,12/1/10 9:41,2.1,15311,UK", "x".repeat(201));
    assert_eq!(reason(&long), Some(BadProduct));
}

#[test]
fn prices_may_have_more_zeros_than_needed() {
    for (text, pence) in [("2", 200), ("2.1", 210), ("2.100", 210), ("0.01", 1), ("1000000", 100_000_000)] {
        assert_eq!(parse_price(text), Ok(Money::gbp(pence)), "{text}");
    }
}

#[test]
fn bytes_that_are_no_text_are_placed() {
    let (reason, detail) = parse(b"536381,82567,CAF\xc9,2,12/1/10 9:41,2.1,15311,UK").unwrap_err();
    assert_eq!((reason, detail.as_str()), (Reason::NotUtf8, "at byte 17"));
}

#[test]
fn a_line_after_a_broken_one_is_parsed_from_its_start() {
    let mut parser = Parser::default();
    for _ in 0..2 {
        assert!(parser.parse(1, &Line::Whole(b"536381,\"open")).is_err());
        assert!(parser.parse(2, &Line::Whole(b"536381,82567,X,2,12/1/10 9:41,2.1,15311,UK")).is_ok());
    }
}
