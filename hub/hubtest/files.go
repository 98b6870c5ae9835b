package hubtest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// page serves what is not below /api: /ID/resolve/REV/PATH and the LFS batch.
func (s *Server) page(w http.ResponseWriter, r *http.Request, parts []string) {
	if i := slices.Index(parts, "info"); i > 0 && strings.HasSuffix(parts[i-1], ".git") {
		s.batch(w, r, strings.TrimSuffix(strings.Join(parts[:i], "/"), ".git"))
		return
	}
	i := slices.Index(parts, "resolve")
	if i < 1 || i > 2 || len(parts) < i+3 {
		refuse(w, http.StatusNotFound, "", "Not Found")
		return
	}
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	m := s.lookup(w, r, strings.Join(parts[:i], "/"), user)
	if m == nil || !s.entitled(w, m, user) {
		return
	}
	s.resolve(w, r, m, parts[i+1], strings.Join(parts[i+2:], "/"))
}

// entitled answers a user who has no access to a gated model.
func (s *Server) entitled(w http.ResponseWriter, m *repo, user string) bool {
	s.mu.Lock()
	ok := !m.gated || user == m.owner || m.allowed[user]
	s.mu.Unlock()
	switch {
	case ok:
	case user == "":
		refuse(w, http.StatusUnauthorized, "GatedRepo",
			"Access to model "+m.id+" is restricted. You must have access to it and be authenticated to access it. Please log in.")
	default:
		refuse(w, http.StatusForbidden, "GatedRepo",
			"Access to model "+m.id+" is restricted and you are not in the authorized list. Visit the page to ask for access.")
	}
	return ok
}

func (s *Server) resolve(w http.ResponseWriter, r *http.Request, m *repo, rev, path string) {
	s.mu.Lock()
	c := m.find(rev)
	s.mu.Unlock()
	if c == nil {
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+rev)
		return
	}
	w.Header().Set("X-Repo-Commit", c.oid)
	e, ok := c.files[path]
	if !ok {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	switch {
	case e.sha256 != "":
		w.Header().Set("X-Linked-Size", fmt.Sprint(e.size))
		w.Header().Set("X-Linked-Etag", `"`+e.sha256+`"`)
		w.Header().Set("ETag", `"`+e.blobID+`"`)
		w.Header().Set("Location", s.sign(e.sha256))
		w.WriteHeader(http.StatusFound)
	case s.Redirect:
		w.Header().Set("X-Linked-Size", fmt.Sprint(e.size))
		w.Header().Set("X-Linked-Etag", `"`+e.blobID+`"`)
		w.Header().Set("Location", "/api/resolve-cache/models/"+m.id+"/"+c.oid+"/"+url.PathEscape(path)+"?etag=%22"+e.blobID+"%22")
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		serveBytes(w, r, e)
	}
}

func serveBytes(w http.ResponseWriter, r *http.Request, e entry) {
	w.Header().Set("ETag", `"`+e.blobID+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(e.data))
}

// resolveCache serves small files at the address that resolve redirects to.
func (s *Server) resolveCache(w http.ResponseWriter, r *http.Request, parts []string) {
	user, ok := s.user(w, r)
	if !ok || len(parts) < 4 {
		return
	}
	m := s.lookup(w, r, parts[0]+"/"+parts[1], user)
	if m == nil || !s.entitled(w, m, user) {
		return
	}
	s.mu.Lock()
	c := m.find(parts[2])
	s.mu.Unlock()
	e, ok := c.files[strings.Join(parts[3:], "/")]
	if !ok {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	w.Header().Set("X-Repo-Commit", c.oid)
	serveBytes(w, r, e)
}

// sign returns an address of the storage that needs no token.
func (s *Server) sign(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	signature := fmt.Sprintf("secret-signature-%d", s.nextID)
	s.signed[signature] = 0
	return s.StorageURL + "/objects/" + key + "?X-Amz-Signature=" + signature
}

// spend uses a signed address; false if it is not valid, or no longer.
func (s *Server) spend(signature string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.signed[signature]
	s.signed[signature] = n + 1
	return ok && (s.ExpireURL == 0 || n < s.ExpireURL)
}

// storageMux serves and takes large files.
func (s *Server) storageMux() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// As S3: an address that is signed and a token at once is an error.
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "only one auth mechanism allowed", http.StatusBadRequest)
			return
		}
		if !s.spend(r.URL.Query().Get("X-Amz-Signature")) {
			http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
			return
		}
		kind, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case kind == "objects" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			s.serveObject(w, r, key)
		case kind == "upload" && r.Method == http.MethodPut:
			s.takeObject(w, r, key)
		case kind == "part" && r.Method == http.MethodPut:
			s.takePart(w, r, key)
		default:
			http.Error(w, "not found", http.StatusNotFound)
		}
	})
}

func (s *Server) serveObject(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	o, ok := s.objects[key]
	s.mu.Unlock()
	if !ok {
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
		return
	}
	f, err := o.open()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	if s.NoRanges {
		r.Header.Del("Range")
	}
	w.Header().Set("ETag", `"storage-`+key[:8]+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}
