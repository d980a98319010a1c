module blockota.example/receipts

go 1.26

require (
	github.com/fxamacker/cbor/v2 v2.10.0
	github.com/transparency-dev/formats v0.1.1
	github.com/veraison/go-cose v1.3.0
	golang.org/x/mod v0.36.0
)

require (
	filippo.io/mldsa v0.0.0-20260215214346-43d0283efc3e // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/crypto v0.52.0 // indirect
)
