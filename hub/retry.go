package hub

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// refusal is an error that trying again does not change.
type refusal struct{ msg string }

func (r refusal) Error() string { return r.msg }

func retryable(err error) bool {
	var no refusal
	return !errors.As(err, &no)
}

// retryStatus reports whether an answer invites to try again, and when.
func retryStatus(r *http.Response) (bool, time.Duration) {
	switch r.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, retryAfter(r.Header)
	}
	return false, 0
}

// retryAfter reads Retry-After, or the reset time of the RateLimit header, which
// the hub sends as `"api";r=0;t=55`.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n >= 0 {
		return time.Duration(min(n, 86400)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(time.Until(t), 0)
	}
	limits := strings.Split(h.Get("RateLimit"), ";")
	for _, f := range limits {
		if t, ok := strings.CutPrefix(strings.TrimSpace(f), "t="); ok {
			if n, err := strconv.Atoi(t); err == nil && n >= 0 {
				return time.Duration(min(n, 86400)) * time.Second
			}
		}
	}
	return 0
}
