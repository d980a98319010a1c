// Command tlog_vectors prints inclusion and consistency proofs of golang.org/x/mod/sumdb/tlog as JSON, good ones and
// damaged ones, each with Go's verdict. The tests of the contracts read the output, tests/contracts/tlog_vectors.json.
package main

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

const leaves = 300

// sizes are those around powers of two, and the whole log.
var sizes = []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 33, 100, 129, 256, leaves}

// The members of the vectors are in alphabetical order, as Foundry's parseJson wants them.
type consistency struct {
	Earlier     int64    `json:"earlier"`
	EarlierRoot string   `json:"earlierRoot"`
	OK          bool     `json:"ok"`
	Proof       []string `json:"proof"`
	Root        string   `json:"root"`
	Size        int64    `json:"size"`
}

type inclusion struct {
	Entry string   `json:"entry"`
	Index int64    `json:"index"`
	Leaf  string   `json:"leaf"`
	OK    bool     `json:"ok"`
	Path  []string `json:"path"`
	Root  string   `json:"root"`
	Size  int64    `json:"size"`
}

type vectors struct {
	Command     string        `json:"command"`
	Consistency []consistency `json:"consistency"`
	Inclusion   []inclusion   `json:"inclusion"`
}

// log keeps every stored hash of a tree in memory.
type log struct {
	hashes []tlog.Hash
	size   int64
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = l.hashes[index]
	}
	return found, nil
}

func (l *log) append(entry []byte) {
	hashes, err := tlog.StoredHashes(l.size, entry, l)
	check(err)
	l.hashes = append(l.hashes, hashes...)
	l.size++
}

func main() {
	l := &log{}
	for i := int64(0); i < leaves; i++ {
		l.append(entry(i))
	}
	out := vectors{Command: "go run -C tests/peers/tlog . > tests/contracts/tlog_vectors.json"}
	for number, size := range sizes {
		root, err := tlog.TreeHash(size, l)
		check(err)
		for _, index := range []int64{0, size / 2, size - 1} {
			if index < 0 || index >= size {
				continue
			}
			path, err := tlog.ProveRecord(size, index, l)
			check(err)
			for change := 0; change < 5; change++ {
				out.Inclusion = append(out.Inclusion, include(size, root, index, path, change))
			}
		}
		for _, earlier := range sizes[:number] {
			earlierRoot, err := tlog.TreeHash(earlier, l)
			check(err)
			proof, err := tlog.ProveTree(size, earlier, l)
			check(err)
			for change := 0; change < 5; change++ {
				// All proofs of all sizes would make the file too long: of the damaged ones, every fifth is printed.
				if change == 0 || (number+int(earlier))%5 == change {
					out.Consistency = append(out.Consistency, continued(size, root, earlier, earlierRoot, proof, change))
				}
			}
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(out))
}

// entry returns the entry at an index; its length depends on the index. Foundry would read 20 bytes as an address.
func entry(index int64) []byte {
	data := make([]byte, 33+index%40)
	binary.BigEndian.PutUint64(data, uint64(index))
	return data
}

// damaged returns the size, the smaller number and the proof of a vector after a change; the change 0 is none.
func damaged(size, number int64, proof []tlog.Hash, change int) (int64, int64, []tlog.Hash) {
	proof = append([]tlog.Hash{}, proof...)
	switch {
	case change == 1 && len(proof) > 0:
		proof = proof[:len(proof)-1]
	case change == 2:
		proof = append(proof, tlog.Hash{1})
	case change == 3:
		size++
	case change == 4 && number+1 < size:
		number++
	}
	return size, number, proof
}

func include(size int64, root tlog.Hash, index int64, path []tlog.Hash, change int) inclusion {
	data := entry(index)
	leaf := tlog.RecordHash(data)
	size, index, path = damaged(size, index, path, change)
	ok := tlog.CheckRecord(path, size, root, index, leaf) == nil
	return inclusion{text(data), index, text(leaf[:]), ok, texts(path), text(root[:]), size}
}

func continued(size int64, root tlog.Hash, earlier int64, earlierRoot tlog.Hash, proof []tlog.Hash, change int) consistency {
	size, earlier, proof = damaged(size, earlier, proof, change)
	ok := tlog.CheckTree(proof, size, root, earlier, earlierRoot) == nil
	return consistency{earlier, text(earlierRoot[:]), ok, texts(proof), text(root[:]), size}
}

func text(data []byte) string {
	return "0x" + hex.EncodeToString(data)
}

func texts(hashes []tlog.Hash) []string {
	found := make([]string, len(hashes))
	for i, hash := range hashes {
		found[i] = text(hash[:])
	}
	return found
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
