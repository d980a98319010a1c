// Command reader reads a log of ours with golang.org/x/mod/sumdb: it opens the checkpoint with a verifier key, reads
// tiles and entry bundles, and proves entries and growth. It prints the proofs as JSON.
//
// Usage: reader FOLDER KEY EARLIER_SIZE INDEX...
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index int64    `json:"index"`
	Entry string   `json:"entry"`
	Path  []string `json:"path"`
}

type result struct {
	Origin      string      `json:"origin"`
	Size        int64       `json:"size"`
	Root        string      `json:"root"`
	EarlierRoot string      `json:"earlierRoot"`
	Consistency []string    `json:"consistency"`
	Inclusion   []inclusion `json:"inclusion"`
}

// folder reads the tiles of C2SP tlog-tiles, whose paths lack the height that those of sumdb have.
type folder string

func (f folder) Height() int { return 8 }

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data, err := f.read("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/"))
		if err != nil {
			return nil, err
		}
		found[i] = data
	}
	return found, nil
}

func (f folder) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(f), path))
}

// entry returns an entry from its bundle, which is named like a tile of level 0.
func (f folder) entry(index, size int64) []byte {
	width := min(256, size-index/256*256)
	path := tlog.Tile{H: 8, L: 0, N: index / 256, W: int(width)}.Path()
	bundle, err := f.read("tile/entries/" + strings.TrimPrefix(path, "tile/8/0/"))
	check(err)
	reader := bytes.NewReader(bundle)
	for skipped := index % 256; ; skipped-- {
		var length uint16
		check(binary.Read(reader, binary.BigEndian, &length))
		data := make([]byte, length)
		if length > 0 {
			_, err := reader.Read(data)
			check(err)
		}
		if skipped == 0 {
			return data
		}
	}
}

func main() {
	f := folder(os.Args[1])
	verifier, err := note.NewVerifier(os.Args[2])
	check(err)
	raw, err := f.read("checkpoint")
	check(err)
	opened, err := note.Open(raw, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	size := number(lines[1])
	root, err := tlog.ParseHash(lines[2])
	check(err)

	// TileHashReader verifies every tile against the root.
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, f)
	out := result{Origin: lines[0], Size: size, Root: hex.EncodeToString(root[:])}
	earlier := number(os.Args[3])
	earlierRoot, err := tlog.TreeHash(earlier, hashes)
	check(err)
	proof, err := tlog.ProveTree(size, earlier, hashes)
	check(err)
	check(tlog.CheckTree(proof, size, root, earlier, earlierRoot))
	out.EarlierRoot, out.Consistency = hex.EncodeToString(earlierRoot[:]), texts(proof)
	for _, text := range os.Args[4:] {
		index := number(text)
		path, err := tlog.ProveRecord(size, index, hashes)
		check(err)
		entry := f.entry(index, size)
		check(tlog.CheckRecord(path, size, root, index, tlog.RecordHash(entry)))
		out.Inclusion = append(out.Inclusion, inclusion{index, hex.EncodeToString(entry), texts(path)})
	}
	check(json.NewEncoder(os.Stdout).Encode(out))
}

func number(text string) int64 {
	found, err := strconv.ParseInt(text, 10, 64)
	check(err)
	return found
}

func texts(hashes []tlog.Hash) []string {
	found := []string{}
	for _, hash := range hashes {
		found = append(found, hex.EncodeToString(hash[:]))
	}
	return found
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}
