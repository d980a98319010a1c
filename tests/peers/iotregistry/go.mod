module blockota/iotregistry

go 1.26

require (
	github.com/btcsuite/btcd/btcec/v2 v2.3.4
	github.com/golang/protobuf v1.5.4
)

require (
	github.com/decred/dcrd/dcrec/secp256k1/v4 v4.0.1 // indirect
	google.golang.org/protobuf v1.33.0 // indirect
)
