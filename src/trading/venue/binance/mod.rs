//! Binance Spot, after its public documentation (`binance/binance-spot-api-docs`).
