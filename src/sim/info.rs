//! What the venue tells of its rules: the answers to `exchangeInfo` and `myFilters`. In: listings and limits. Out: JSON
//! text with the fields, and in the order, of the venue's documentation.

use crate::clock::UtcNs;

use super::exchange::Exchange;
use super::filters::{
    AMENDS_MAX, ICEBERG_PARTS_MAX, MARKET_QTY_MAX, NOTIONAL_MAX, OPEN_ORDERS_MAX, OPEN_STOPS_MAX,
    PRICE_DOWN, PRICE_UP,
};
use super::json::{Json, decimal};
use super::listing::{Listing, PRICE_MAX, QTY_MAX};
use super::request::Params;
use super::wire::{limit, order_limits, weight_limit};

/// The answer to `myFilters`.
pub fn my_filters(listing: &Listing) -> String {
    Json::object(|j| {
        j.f_raw("exchangeFilters", "[]");
        j.key("symbolFilters").arr(|j| filters(j, listing));
        j.f_raw("assetFilters", "[]");
    })
}

/// The answer to `exchangeInfo` about `listings`.
pub fn exchange_info(
    exchange: &Exchange,
    listings: &[&Listing],
    permission_sets: bool,
    params: &Params,
    utc: UtcNs,
) -> String {
    let limits = &exchange.limits;
    params.unit().object(|j| {
        j.f_text("timezone", "UTC").f_time("serverTime", utc);
        j.key("rateLimits").arr(|j| {
            weight_limit(j, limits, None);
            order_limits(j, limits, None);
            // Each transport tells of the limit that it alone has.
            let (kind, most) = if params.came_by_websocket() {
                ("CONNECTIONS", exchange.connects_max)
            } else {
                ("RAW_REQUESTS", limits.raw_requests_per_5m())
            };
            limit(j, kind, ("MINUTE", 5), most, None);
        });
        j.f_raw("exchangeFilters", "[]");
        j.key("symbols").arr(|j| {
            for listing in listings {
                j.obj(|j| symbol_info(j, listing, permission_sets));
            }
        });
    })
}

fn symbol_info(j: &mut Json, listing: &Listing, permission_sets: bool) {
    let rules = &listing.rules;
    j.f_text("symbol", &rules.symbol)
        .f_text("status", listing.status)
        .f_text("baseAsset", &rules.base)
        .f_int("baseAssetPrecision", 8)
        .f_text("quoteAsset", &rules.quote)
        .f_int("quotePrecision", 8)
        .f_int("quoteAssetPrecision", 8)
        .f_int("baseCommissionPrecision", 8)
        .f_int("quoteCommissionPrecision", 8)
        .f_raw(
            "orderTypes",
            r#"["LIMIT","LIMIT_MAKER","MARKET","STOP_LOSS","STOP_LOSS_LIMIT","TAKE_PROFIT","TAKE_PROFIT_LIMIT"]"#,
        );
    for (name, value) in [
        ("icebergAllowed", true),
        ("ocoAllowed", false),
        ("otoAllowed", false),
        ("opoAllowed", false),
        ("quoteOrderQtyMarketAllowed", true),
        ("allowTrailingStop", false),
        ("cancelReplaceAllowed", true),
        ("amendAllowed", true),
        ("pegInstructionsAllowed", false),
        ("isSpotTradingAllowed", true),
        ("isMarginTradingAllowed", false),
    ] {
        j.f_flag(name, value);
    }
    j.key("filters").arr(|j| filters(j, listing));
    j.f_raw("permissions", "[]");
    j.f_raw("permissionSets", if permission_sets { r#"[["SPOT"]]"# } else { "[]" });
    j.f_text("defaultSelfTradePreventionMode", "EXPIRE_MAKER").f_raw(
        "allowedSelfTradePreventionModes",
        r#"["NONE","EXPIRE_TAKER","EXPIRE_MAKER","EXPIRE_BOTH","DECREMENT","TRANSFER"]"#,
    );
}

fn filters(j: &mut Json, listing: &Listing) {
    let rules = &listing.rules;
    j.obj(|j| {
        j.f_text("filterType", "PRICE_FILTER")
            .f_dec("minPrice", rules.tick)
            .f_dec("maxPrice", PRICE_MAX)
            .f_dec("tickSize", rules.tick);
    });
    j.obj(|j| {
        j.f_text("filterType", "LOT_SIZE")
            .f_dec("minQty", rules.lot)
            .f_dec("maxQty", QTY_MAX)
            .f_dec("stepSize", rules.lot);
    });
    j.obj(|j| {
        j.f_text("filterType", "ICEBERG_PARTS").f_int("limit", ICEBERG_PARTS_MAX);
    });
    j.obj(|j| {
        j.f_text("filterType", "NOTIONAL")
            .f_dec("minNotional", rules.min_notional)
            .f_flag("applyMinToMarket", true)
            .f_dec("maxNotional", NOTIONAL_MAX)
            .f_flag("applyMaxToMarket", false)
            .f_int("avgPriceMins", 0);
    });
    j.obj(|j| {
        j.f_text("filterType", "MARKET_LOT_SIZE")
            .f_dec("minQty", 0)
            .f_dec("maxQty", MARKET_QTY_MAX)
            .f_dec("stepSize", 0);
    });
    let (up, down) = (PRICE_UP.to_string(), decimal(100_000_000 / PRICE_DOWN));
    j.obj(|j| {
        j.f_text("filterType", "PERCENT_PRICE_BY_SIDE")
            .f_text("bidMultiplierUp", &up)
            .f_text("bidMultiplierDown", &down)
            .f_text("askMultiplierUp", &up)
            .f_text("askMultiplierDown", &down)
            .f_int("avgPriceMins", 0);
    });
    j.obj(|j| {
        j.f_text("filterType", "MAX_NUM_ORDERS").f_int("maxNumOrders", OPEN_ORDERS_MAX);
    });
    j.obj(|j| {
        j.f_text("filterType", "MAX_NUM_ALGO_ORDERS").f_int("maxNumAlgoOrders", OPEN_STOPS_MAX);
    });
    j.obj(|j| {
        j.f_text("filterType", "MAX_NUM_ORDER_AMENDS").f_int("maxNumOrderAmends", AMENDS_MAX);
    });
    if let Some(position) = rules.max_position {
        j.obj(|j| {
            j.f_text("filterType", "MAX_POSITION").f_dec("maxPosition", position);
        });
    }
}
