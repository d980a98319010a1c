// Command vectors COUNT prints messages of IOTRegistry as Go's protobuf, btcec and encoding/json packages write them.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand"
	"os"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/golang/protobuf/proto"
)

type createRegistrant struct {
	Name      string `protobuf:"bytes,1,opt,name=RegistrantName"`
	Pubkey    []byte `protobuf:"bytes,2,opt,name=RegistrantPubkey,proto3"`
	Data      string `protobuf:"bytes,3,opt,name=Data"`
	Signature []byte `protobuf:"bytes,4,opt,name=Signature,proto3"`
}

type registerThing struct {
	Nonce     []byte   `protobuf:"bytes,1,opt,name=Nonce,proto3"`
	Aliases   []string `protobuf:"bytes,2,rep,name=Aliases"`
	Pubkey    string   `protobuf:"bytes,3,opt,name=RegistrantPubkey"`
	Signature []byte   `protobuf:"bytes,4,opt,name=Signature,proto3"`
	Data      string   `protobuf:"bytes,5,opt,name=Data"`
	Spec      string   `protobuf:"bytes,6,opt,name=Spec"`
}

type registerSpec struct {
	Name      string `protobuf:"bytes,1,opt,name=SpecName"`
	Pubkey    string `protobuf:"bytes,2,opt,name=RegistrantPubkey"`
	Signature []byte `protobuf:"bytes,3,opt,name=Signature,proto3"`
	Data      string `protobuf:"bytes,4,opt,name=Data"`
}

type registrant struct {
	Name   string `protobuf:"bytes,1,opt,name=RegistrantName"`
	Pubkey []byte `protobuf:"bytes,3,opt,name=RegistrantPubkey,proto3"`
}

type alias struct {
	Nonce []byte `protobuf:"bytes,1,opt,name=Nonce,proto3"`
}

type thing struct {
	Aliases []string `protobuf:"bytes,1,rep,name=Aliases" json:"Aliases,omitempty"`
	Pubkey  string   `protobuf:"bytes,2,opt,name=RegistrantPubkey" json:"RegistrantPubkey,omitempty"`
	Data    string   `protobuf:"bytes,3,opt,name=Data" json:"Data,omitempty"`
	Spec    string   `protobuf:"bytes,4,opt,name=SpecName" json:"SpecName,omitempty"`
}

type spec struct {
	Pubkey string `protobuf:"bytes,2,opt,name=RegistrantPubkey" json:"RegistrantPubkey,omitempty"`
	Data   string `protobuf:"bytes,1,opt,name=Data" json:"Data,omitempty"`
}

func (m *createRegistrant) Reset()         {}
func (m *createRegistrant) String() string { return "" }
func (*createRegistrant) ProtoMessage()    {}
func (m *registerThing) Reset()            {}
func (m *registerThing) String() string    { return "" }
func (*registerThing) ProtoMessage()       {}
func (m *registerSpec) Reset()             {}
func (m *registerSpec) String() string     { return "" }
func (*registerSpec) ProtoMessage()        {}
func (m *registrant) Reset()               {}
func (m *registrant) String() string       { return "" }
func (*registrant) ProtoMessage()          {}
func (m *alias) Reset()                    {}
func (m *alias) String() string            { return "" }
func (*alias) ProtoMessage()               {}
func (m *thing) Reset()                    {}
func (m *thing) String() string            { return "" }
func (*thing) ProtoMessage()               {}
func (m *spec) Reset()                     {}
func (m *spec) String() string             { return "" }
func (*spec) ProtoMessage()                {}

// One registrant, one spec and one thing of it: the fields, the messages in hexadecimal, and the answers to queries.
type vector struct {
	Name, Key, Data, SpecName, SpecData, Nonce, ThingData                      string
	Aliases                                                                    []string
	CreateRegistrant, RegisterSpec, RegisterThing, Registrant, Spec            string
	Thing, Alias, OwnerAnswer, SpecAnswer, ThingAnswer, RegistrantUncompressed string
}

var letters = []rune("abcdefgXYZ0189 ._-/:<>&\"\\\n\t\x01äß€😀\u2028\x7f")

func text(random *rand.Rand, longest int) string {
	out := make([]rune, random.Intn(longest+1))
	for i := range out {
		out[i] = letters[random.Intn(len(letters))]
	}
	return string(out)
}

func marshal(message proto.Message) string {
	raw, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(raw)
}

func answer(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func sign(key *btcec.PrivateKey, parts ...string) []byte {
	digest := sha256.Sum256([]byte(strings.Join(parts, ":")))
	return ecdsa.Sign(key, digest[:]).Serialize()
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	random := rand.New(rand.NewSource(20180101))
	var vectors []vector
	for i := 0; i < count; i++ {
		seed := make([]byte, 32)
		random.Read(seed)
		key, public := btcec.PrivKeyFromBytes(seed)
		compressed := public.SerializeCompressed()
		hexKey := hex.EncodeToString(compressed)
		nonce := make([]byte, 1+random.Intn(40))
		random.Read(nonce)
		v := vector{Name: "r" + text(random, 8), Key: hexKey, Data: text(random, 20), SpecName: "s" + text(random, 12),
			SpecData: text(random, 200), Nonce: hex.EncodeToString(nonce), ThingData: text(random, 300)}
		for n := random.Intn(5); n > 0; n-- {
			v.Aliases = append(v.Aliases, "a"+text(random, 150))
		}

		uncompressed := public.SerializeUncompressed()
		v.CreateRegistrant = marshal(&createRegistrant{v.Name, compressed, v.Data, sign(key, v.Name, hexKey, v.Data)})
		signature := sign(key, v.Name, hex.EncodeToString(uncompressed), v.Data)
		v.RegistrantUncompressed = marshal(&createRegistrant{v.Name, uncompressed, v.Data, signature})
		v.RegisterSpec = marshal(&registerSpec{v.SpecName, hexKey, sign(key, v.SpecName, hexKey, v.SpecData), v.SpecData})
		parts := append(append([]string{hexKey}, v.Aliases...), v.ThingData, v.SpecName)
		v.RegisterThing = marshal(&registerThing{nonce, v.Aliases, hexKey, sign(key, parts...), v.ThingData, v.SpecName})

		v.Registrant = marshal(&registrant{v.Name, compressed})
		v.Spec = marshal(&spec{hexKey, v.SpecData})
		v.Thing = marshal(&thing{v.Aliases, hexKey, v.ThingData, v.SpecName})
		v.Alias = marshal(&alias{nonce})
		v.OwnerAnswer = answer(struct{ RegistrantName, Pubkey string }{v.Name, hexKey})
		v.SpecAnswer = answer(&spec{hexKey, v.SpecData})
		v.ThingAnswer = answer(&thing{v.Aliases, hexKey, v.ThingData, v.SpecName})
		vectors = append(vectors, v)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(vectors); err != nil {
		panic(err)
	}
}
