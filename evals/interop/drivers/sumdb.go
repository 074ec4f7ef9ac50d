// Command sumdb reads an exported log with the Go project's own packages for transparency logs.
//
// Usage: sumdb DIR, or sumdb --sign DIR to write a checkpoint that it signed, and its policy. It opens the checkpoint with golang.org/x/mod/sumdb/note, recomputes the root and proves and checks
// every entry and some earlier trees over the tiles with golang.org/x/mod/sumdb/tlog, and opens every proof file.
// It exits with 1 and a sentence when anything does not hold.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// witness verifies timestamped Ed25519 cosignatures, which package note leaves to its callers.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }
func (w *witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	header := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(w.key, append([]byte(header), msg...), sig[8:])
}

func newWitness(vkey string) (note.Verifier, bool) {
	parts := strings.SplitN(vkey, "+", 3)
	must(len(parts) == 3, "a vkey has three parts")
	data, err := base64.StdEncoding.DecodeString(parts[2])
	check(err)
	if data[0] != 4 {
		return nil, false
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), data...))
	hash := binary.BigEndian.Uint32(sum[:])
	must(fmt.Sprintf("%08x", hash) == parts[1], "the key id is not the witness key's")
	return &witness{parts[0], hash, ed25519.PublicKey(data[1:])}, true
}

type tiles struct{ dir string }

func (t tiles) Height() int                     { return height }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range want {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		data, err := os.ReadFile(filepath.Join(t.dir, path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func bundle(dir string, n, size int64) []byte {
	tile := tlog.Tile{H: height, L: -1, N: n, W: 1 << height}
	if rest := size - n<<height; rest < 1<<height {
		tile.W = int(rest)
	}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(dir, path))
	check(err)
	return data
}

// head is the tree that a verified checkpoint states.
func head(text, origin string) tlog.Tree {
	lines := strings.Split(text, "\n")
	must(len(lines) == 4 && lines[0] == origin, "not a checkpoint of this log")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	hash, err := tlog.ParseHash(lines[2])
	check(err)
	return tlog.Tree{N: size, Hash: hash}
}

func open(data []byte, known []note.Verifier, needed int) tlog.Tree {
	signed, err := note.Open(data, note.VerifierList(known...))
	check(err)
	origin := ""
	for _, sig := range signed.Sigs {
		if sig.Name == known[0].Name() {
			origin = sig.Name
		}
	}
	must(origin != "", "the log did not sign")
	must(len(signed.Sigs) >= needed, "a cosignature is missing")
	return head(signed.Text, origin)
}

func readProof(data []byte) (entry []byte, index int64, proof tlog.RecordProof, checkpoint []byte) {
	at := bytes.Index(data, []byte("\n\n"))
	must(at > 0, "a proof has an empty line")
	lines := strings.Split(string(data[:at]), "\n")
	must(lines[0] == "c2sp.org/tlog-proof@v1" && strings.HasPrefix(lines[1], "extra "), "not a proof with its entry")
	entry, err := base64.StdEncoding.DecodeString(lines[1][len("extra "):])
	check(err)
	must(strings.HasPrefix(lines[2], "index "), "a proof has an index")
	index, err = strconv.ParseInt(lines[2][len("index "):], 10, 64)
	check(err)
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		check(err)
		proof = append(proof, hash)
	}
	return entry, index, proof, data[at+2:]
}

// sign writes a checkpoint of a log of one entry and the policy that trusts it.
func sign(dir string) {
	const origin = "theirs.example/log"
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	check(err)
	signer, err := note.NewSigner(skey)
	check(err)
	text := fmt.Sprintf("%s\n1\n%s\n", origin, tlog.RecordHash([]byte("theirs")))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	check(err)
	check(os.WriteFile(filepath.Join(dir, "checkpoint"), signed, 0o644))
	check(os.WriteFile(filepath.Join(dir, "policy"), []byte("log "+vkey+"\nquorum none\n"), 0o644))
	fmt.Println("golang.org/x/mod/sumdb: signed")
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "--sign" {
		sign(os.Args[2])
		return
	}
	must(len(os.Args) == 2, "usage: sumdb DIR")
	dir := os.Args[1]
	policy, err := os.ReadFile(filepath.Join(dir, "policy"))
	check(err)
	var known []note.Verifier
	witnesses := 0
	for _, line := range strings.Split(string(policy), "\n") {
		switch words := strings.Fields(line); {
		case len(words) >= 2 && words[0] == "log":
			key, err := note.NewVerifier(words[1])
			check(err)
			known = append([]note.Verifier{key}, known...)
		case len(words) >= 3 && words[0] == "witness":
			if key, ok := newWitness(words[2]); ok {
				known = append(known, key)
				witnesses++
			}
		}
	}
	must(len(known) > witnesses, "the policy names no log")
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	check(err)
	tree := open(data, known, 1+witnesses)

	reader := tlog.TileHashReader(tree, tiles{dir})
	root, err := tlog.TreeHash(tree.N, reader)
	check(err)
	must(root == tree.Hash, "the tiles have another root")
	entries := int64(0)
	for n := int64(0); n<<height < tree.N; n++ {
		rest := bundle(dir, n, tree.N)
		for len(rest) > 0 {
			must(len(rest) >= 2, "a bundle ends early")
			size := int(binary.BigEndian.Uint16(rest))
			must(len(rest) >= 2+size, "a bundle ends early")
			leaf := tlog.RecordHash(rest[2 : 2+size])
			stored, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, entries)})
			check(err)
			must(stored[0] == leaf, "an entry is not the one under its tile")
			if entries%7 == 0 || entries == tree.N-1 {
				proof, err := tlog.ProveRecord(tree.N, entries, reader)
				check(err)
				check(tlog.CheckRecord(proof, tree.N, tree.Hash, entries, leaf))
			}
			rest = rest[2+size:]
			entries++
		}
	}
	must(entries == tree.N, "the bundles hold another number of entries")
	for n := int64(1); n <= tree.N; n += 1 + tree.N/37 {
		old, err := tlog.TreeHash(n, reader)
		check(err)
		proof, err := tlog.ProveTree(tree.N, n, reader)
		check(err)
		check(tlog.CheckTree(proof, tree.N, tree.Hash, n, old))
	}
	paths, err := filepath.Glob(filepath.Join(dir, "proofs", "*.tlog-proof"))
	check(err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		check(err)
		entry, index, proof, checkpoint := readProof(data)
		signed := open(checkpoint, known, 1)
		check(tlog.CheckRecord(proof, signed.N, signed.Hash, index, tlog.RecordHash(entry)))
	}
	fmt.Printf("golang.org/x/mod/sumdb: checkpoint and %d cosignatures, %d entries, %d proofs\n", witnesses, entries, len(paths))
}

func check(err error) {
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func must(ok bool, sentence string) {
	if !ok {
		check(fmt.Errorf("%s", sentence))
	}
}
