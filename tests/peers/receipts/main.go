// Command receipts checks the proof file of a log entry with libraries that share no code with BlockOTA, and prints
// what it found as JSON. The arguments are the file, the log's verifier key, those of the witnesses, separated by
// commas, and the device's P-256 key (x and y in hexadecimal digits).
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"github.com/veraison/go-cose"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// receipt is the proof file.
type receipt struct {
	Entry string `json:"entry"`
	Proof string `json:"proof"`
}

// entry is the array of 17 items.
type entry struct {
	_         struct{} `cbor:",toarray"`
	Kind      uint8
	Device    []byte
	Release   []byte
	ChainID   uint64
	Contract  []byte
	Product   string
	Version   uint64
	Image     []byte
	Previous  []byte
	Level     *string
	Counter   *uint64
	UniqueID  []byte
	Time      uint64
	Gateway   []byte
	Source    *string
	Order     *uint64
	Signature []byte
}

// statement is the payload that a device signs.
type statement struct {
	_       struct{} `cbor:",toarray"`
	Nonce   []byte
	Counter uint64
	Image   []byte
}

func main() {
	found, err := check(os.Args[1], os.Args[2], strings.Split(os.Args[3], ","), os.Args[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	json.NewEncoder(os.Stdout).Encode(found)
}

func check(path, logKey string, witnessKeys []string, deviceKey string) (map[string]any, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file receipt
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	leaf, err := base64.StdEncoding.Strict().DecodeString(file.Entry)
	if err != nil {
		return nil, err
	}
	var inclusion proof.TLogProof
	if err := inclusion.Unmarshal([]byte(file.Proof)); err != nil {
		return nil, err
	}

	checkpoint, signed, err := open(inclusion.Checkpoint, logKey, witnessKeys)
	if err != nil {
		return nil, err
	}
	var hashes tlog.RecordProof
	for _, hash := range inclusion.Hashes {
		hashes = append(hashes, tlog.Hash(hash))
	}
	size, root := int64(checkpoint.Size), tlog.Hash(checkpoint.Hash)
	if err := tlog.CheckRecord(hashes, size, root, int64(inclusion.Index), tlog.RecordHash(leaf)); err != nil {
		return nil, err
	}

	found, err := decode(leaf)
	if err != nil {
		return nil, err
	}
	said, err := verify(found.Signature, deviceKey)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"index": inclusion.Index, "size": checkpoint.Size, "origin": checkpoint.Origin, "witnesses": len(signed.Sigs) - 1,
		"kind": found.Kind, "device": new(big.Int).SetBytes(found.Device).Uint64(), "product": found.Product,
		"release": hex.EncodeToString(found.Release), "image": hex.EncodeToString(found.Image),
		"signedImage": hex.EncodeToString(said.Image), "signedCounter": said.Counter,
		"kindByte": leaf[1], "numberBytes": hex.EncodeToString(leaf[3:11]), "releaseBytes": hex.EncodeToString(leaf[13:45]),
	}, nil
}

// open verifies the signatures of a checkpoint.
func open(raw []byte, logKey string, witnessKeys []string) (*log.Checkpoint, *note.Note, error) {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, nil, err
	}
	var witnesses []note.Verifier
	for _, key := range witnessKeys {
		witness, err := cosignature.NewVerifierForCosignatureV1(key)
		if err != nil {
			return nil, nil, err
		}
		witnesses = append(witnesses, witness)
	}
	checkpoint, _, signed, err := log.ParseCheckpoint(raw, verifier.Name(), verifier, witnesses...)
	return checkpoint, signed, err
}

// decode reads an entry, and refuses it if it is not the core deterministic encoding of its values.
func decode(raw []byte) (*entry, error) {
	strict, err := cbor.DecOptions{
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	var found entry
	if err := strict.Unmarshal(raw, &found); err != nil {
		return nil, err
	}
	deterministic, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	again, err := deterministic.Marshal(found)
	if err != nil {
		return nil, err
	}
	if string(again) != string(raw) {
		return nil, fmt.Errorf("the entry is not deterministic: %x", again)
	}
	return &found, nil
}

// verify checks the COSE_Sign1 structure of a device.
func verify(raw []byte, deviceKey string) (*statement, error) {
	point, err := hex.DecodeString(deviceKey)
	if err != nil {
		return nil, err
	}
	x, y := new(big.Int).SetBytes(point[:32]), new(big.Int).SetBytes(point[32:])
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y})
	if err != nil {
		return nil, err
	}
	var message cose.UntaggedSign1Message
	if err := message.UnmarshalCBOR(raw); err != nil {
		return nil, err
	}
	if err := (*cose.Sign1Message)(&message).Verify(nil, verifier); err != nil {
		return nil, err
	}
	if message.Headers.Protected[int64(16)] != "application/blockota-runs" {
		return nil, fmt.Errorf("another type: %v", message.Headers.Protected)
	}
	var said statement
	err = cbor.Unmarshal(message.Payload, &said)
	return &said, err
}
