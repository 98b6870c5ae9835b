package hub

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Listings of commits, which never change, are kept as huggingface_hub keeps
// them: in trees/COMMIT.json beside blobs and snapshots. They also tell later,
// without the hub, whether a snapshot is whole.

const treeFormat = 1

type treeFile struct {
	Size    int64  `json:"size"`
	BlobID  string `json:"blob_id"`
	SHA256  string `json:"lfs_sha256,omitempty"`
	LFSSize *int64 `json:"lfs_size,omitempty"`
	XetHash string `json:"xet_hash,omitempty"`
}

type treeListing struct {
	FormatVersion int                 `json:"format_version"`
	Files         map[string]treeFile `json:"files"`
}

func (c *Client) treePath(id, commit string) string {
	return filepath.Join(c.repoFolder(id), "trees", commit+".json")
}

// cachedTree returns the kept listing of a commit, nil if there is none that can
// be used.
func (c *Client) cachedTree(id, commit string) []File {
	f, err := os.Open(c.treePath(id, commit))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJSON))
	if err != nil {
		return nil
	}
	return parseTree(data)
}

// parseTree reads a kept listing; nil if anything about it is odd.
func parseTree(data []byte) []File {
	var t treeListing
	if json.Unmarshal(data, &t) != nil || t.FormatVersion != treeFormat || t.Files == nil {
		return nil
	}
	files := []File{}
	for path, e := range t.Files {
		f := File{Path: path, Size: e.Size, BlobID: e.BlobID, SHA256: e.SHA256, xet: e.XetHash}
		if e.LFSSize != nil {
			f.Size = *e.LFSSize
		}
		if f.check() != nil {
			return nil
		}
		files = append(files, f)
	}
	if !countable(files) {
		return nil
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// keepTree writes a listing. A cache that cannot be written is no reason to
// stop here: the download will say so.
func (c *Client) keepTree(id, commit string, files []File) {
	t := treeListing{treeFormat, make(map[string]treeFile, len(files))}
	for _, f := range files {
		e := treeFile{Size: f.Size, BlobID: f.BlobID, SHA256: f.SHA256}
		if f.SHA256 != "" {
			e.LFSSize = &f.Size
		}
		if isHex(f.xet, 64) {
			e.XetHash = f.xet
		}
		t.Files[f.Path] = e
	}
	data, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return
	}
	path := c.treePath(id, commit)
	if os.MkdirAll(filepath.Dir(path), 0o777) == nil {
		_ = replaceFile(path, data)
	}
}
