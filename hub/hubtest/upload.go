package hubtest

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// mayWrite answers a user who may not.
func (s *Server) mayWrite(w http.ResponseWriter, m *repo, user string) bool {
	switch user {
	case m.owner:
		return true
	case "":
		refuse(w, http.StatusUnauthorized, "", "Invalid username or password.")
	default:
		refuse(w, http.StatusForbidden, "", "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
	}
	return false
}

func wantsPR(r *http.Request) bool { return r.URL.Query().Get("create_pr") == "1" }

// preupload says for each file how it is to be uploaded.
func (s *Server) preupload(w http.ResponseWriter, r *http.Request, m *repo, c *commit, user string) {
	if !wantsPR(r) && !s.mayWrite(w, m, user) {
		return
	}
	var v struct {
		Files []struct {
			Path, Sample string
			Size         int64
		}
		GitIgnore string
	}
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		refuse(w, http.StatusBadRequest, "", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []map[string]any{}
	for _, f := range v.Files {
		sample, err := base64.StdEncoding.DecodeString(f.Sample)
		if err != nil || len(sample) > 512 || int64(len(sample)) != min(f.Size, 512) {
			refuse(w, http.StatusBadRequest, "", "sample of "+f.Path+" is wrong")
			return
		}
		mode := "regular"
		if s.large(f.Path, f.Size) || bytes.IndexByte(sample, 0) >= 0 {
			mode = "lfs"
		}
		item := map[string]any{"path": f.Path, "uploadMode": mode, "shouldIgnore": false}
		if c != nil {
			if e, ok := c.files[f.Path]; ok {
				item["oid"] = e.blobID
				if e.sha256 != "" {
					item["oid"] = e.sha256
				}
			}
		}
		out = append(out, item)
	}
	answer(w, http.StatusOK, map[string]any{"files": out})
}

// batch is git-lfs's API: where to upload what is not there.
func (s *Server) batch(w http.ResponseWriter, r *http.Request, id string) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	if path.Base(r.URL.Path) == "complete" || path.Base(r.URL.Path) == "verify" {
		s.finish(w, r)
		return
	}
	m := s.lookup(w, r, id, user)
	if m == nil {
		return
	}
	if user == "" {
		refuse(w, http.StatusUnauthorized, "", "Invalid username or password.")
		return
	}
	var v struct {
		Operation string
		Transfers []string
		Objects   []struct {
			OID  string
			Size int64
		}
		HashAlgo string `json:"hash_algo"`
	}
	if json.NewDecoder(r.Body).Decode(&v) != nil || v.Operation != "upload" || v.HashAlgo != "sha256" ||
		!strings.HasPrefix(r.Header.Get("Accept"), "application/vnd.git-lfs+json") {
		refuse(w, http.StatusBadRequest, "", "not a git-lfs batch request for an upload")
		return
	}
	out := []map[string]any{}
	for _, o := range v.Objects {
		item := map[string]any{"oid": o.OID, "size": o.Size, "authenticated": true}
		s.mu.Lock()
		_, have := s.objects[o.OID]
		s.mu.Unlock()
		if !have {
			item["actions"] = s.actions(id, o.OID, o.Size, slices.Contains(v.Transfers, "multipart"))
		}
		out = append(out, item)
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": out})
}

// actions are the instructions for one upload.
func (s *Server) actions(id, oid string, size int64, multipart bool) map[string]any {
	lfs := s.URL + "/" + id + ".git/info/lfs"
	verify := map[string]any{"href": lfs + "/verify"}
	if s.PartSize == 0 || size <= s.PartSize || !multipart {
		return map[string]any{"upload": map[string]any{"href": strings.Replace(s.sign(oid), "/objects/", "/upload/", 1)}, "verify": verify}
	}
	s.mu.Lock()
	s.nextID++
	upload := strconv.Itoa(s.nextID)
	s.uploads[upload] = map[int][]byte{}
	s.mu.Unlock()
	header := map[string]string{"chunk_size": strconv.FormatInt(s.PartSize, 10)}
	for i := int64(0); i*s.PartSize < size; i++ {
		header[fmt.Sprintf("%05d", i+1)] = strings.Replace(s.sign(upload+"/"+strconv.FormatInt(i+1, 10)), "/objects/", "/part/", 1)
	}
	return map[string]any{"upload": map[string]any{"href": lfs + "/complete?upload=" + upload, "header": header}, "verify": verify}
}

// finish completes an upload in parts, or verifies one.
func (s *Server) finish(w http.ResponseWriter, r *http.Request) {
	var v struct {
		OID   string
		Size  int64
		Parts []struct {
			PartNumber int
			ETag       string
		}
	}
	if json.NewDecoder(r.Body).Decode(&v) != nil {
		refuse(w, http.StatusBadRequest, "", "not JSON")
		return
	}
	if path.Base(r.URL.Path) == "verify" {
		s.mu.Lock()
		o, ok := s.objects[v.OID]
		s.mu.Unlock()
		if !ok || o.size != v.Size {
			refuse(w, http.StatusNotFound, "", "the object is not there")
			return
		}
		answer(w, http.StatusOK, map[string]string{})
		return
	}
	s.mu.Lock()
	parts := s.uploads[r.URL.Query().Get("upload")]
	s.mu.Unlock()
	var data []byte
	for i, p := range v.Parts {
		body, ok := parts[p.PartNumber]
		if !ok || p.PartNumber != i+1 || p.ETag != etag(body) {
			refuse(w, http.StatusBadRequest, "", fmt.Sprintf("part %d is wrong", p.PartNumber))
			return
		}
		data = append(data, body...)
	}
	if !s.keep(v.OID, data) {
		refuse(w, http.StatusBadRequest, "", "the parts do not make the object")
		return
	}
	answer(w, http.StatusOK, map[string]any{"success": true})
}

func etag(p []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(p)) }

// keep stores an object whose checksum is right.
func (s *Server) keep(oid string, data []byte) bool {
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != oid {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[oid] = object{data: data, size: int64(len(data))}
	return true
}

func (s *Server) takeBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	s.mu.Lock()
	s.received += int64(len(data))
	s.mu.Unlock()
	return data, err
}

func (s *Server) takeObject(w http.ResponseWriter, r *http.Request, oid string) {
	data, err := s.takeBody(r)
	if err != nil || r.ContentLength < 0 || !s.keep(oid, data) {
		http.Error(w, "<Error><Code>BadDigest</Code></Error>", http.StatusBadRequest)
		return
	}
	w.Header().Set("ETag", etag(data))
}

func (s *Server) takePart(w http.ResponseWriter, r *http.Request, key string) {
	upload, part, _ := strings.Cut(key, "/")
	n, _ := strconv.Atoi(part)
	data, err := s.takeBody(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.uploads[upload] == nil || int64(len(data)) > s.PartSize {
		http.Error(w, "<Error><Code>NoSuchUpload</Code></Error>", http.StatusBadRequest)
		return
	}
	s.uploads[upload][n] = data
	w.Header().Set("ETag", etag(data))
}

// operation is one line of a commit.
type operation struct {
	Key   string
	Value struct {
		Summary, Description, ParentCommit string
		Path, Content, Encoding            string
		Algo, OID                          string
		Size                               int64
	}
}

// commit applies an ndjson commit, all of it or nothing.
func (s *Server) commit(w http.ResponseWriter, r *http.Request, m *repo, rev, user string) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-ndjson") {
		refuse(w, http.StatusBadRequest, "", "not ndjson")
		return
	}
	if user == "" || !wantsPR(r) && !s.mayWrite(w, m, user) {
		if user == "" && wantsPR(r) {
			refuse(w, http.StatusUnauthorized, "", "Invalid username or password.")
		}
		return
	}
	var ops []operation
	for dec := json.NewDecoder(r.Body); ; {
		var o operation
		if err := dec.Decode(&o); err == io.EOF {
			break
		} else if err != nil {
			refuse(w, http.StatusBadRequest, "", "a line is not JSON")
			return
		}
		ops = append(ops, o)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := "refs/heads/" + rev
	if strings.HasPrefix(rev, "refs/") {
		ref = rev
	}
	if len(ops) == 0 || ops[0].Key != "header" || ops[0].Value.Summary == "" {
		refuse(w, http.StatusBadRequest, "", "the header is missing")
		return
	}
	if p := ops[0].Value.ParentCommit; p != "" && p != m.refs[ref] {
		refuse(w, http.StatusPreconditionFailed, "", "A commit has happened since. Please refresh and try again.")
		return
	}
	c := m.head(ref).child(ops[0].Value.Summary)
	for _, o := range ops[1:] {
		if problem := s.apply(c, o); problem != "" {
			refuse(w, http.StatusBadRequest, "", problem)
			return
		}
	}
	out := map[string]any{"success": true}
	if wantsPR(r) {
		m.prs++
		ref = fmt.Sprintf("refs/pr/%d", m.prs)
		out["pullRequestUrl"] = fmt.Sprintf("%s/%s/discussions/%d", s.URL, m.id, m.prs)
	}
	oid := m.add(ref, c)
	out["commitOid"], out["commitUrl"] = oid, s.URL+"/"+m.id+"/commit/"+oid
	answer(w, http.StatusOK, out)
}

func (s *Server) apply(c *commit, o operation) (problem string) {
	v := o.Value
	switch o.Key {
	case "file":
		data, err := base64.StdEncoding.DecodeString(v.Content)
		if err != nil || v.Encoding != "base64" || s.large(v.Path, int64(len(data))) {
			return "file " + v.Path + " cannot be committed so"
		}
		c.files[v.Path] = entry{blobID: gitBlob(data), size: int64(len(data)), data: data}
	case "lfsFile":
		obj, ok := s.objects[v.OID]
		if !ok || v.Algo != "sha256" || v.Size != obj.size {
			return "LFS object of " + v.Path + " was not uploaded"
		}
		c.files[v.Path] = lfsEntry(v.OID, obj.size)
	case "deletedFile":
		if _, ok := c.files[v.Path]; !ok {
			return "A file with this name doesn't exist: " + v.Path
		}
		delete(c.files, v.Path)
	default:
		return "unknown operation " + o.Key
	}
	return ""
}
