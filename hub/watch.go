package hub

import (
	"context"
	"fmt"
	"io"
	"time"
)

// watch cancels a request in which nothing has moved for a while.
type watch struct {
	t      *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
}

func watchdog(ctx context.Context, idle time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{idle: idle, cancel: cancel}
	w.t = time.AfterFunc(idle, func() { cancel(fmt.Errorf("nothing arrived for %v", idle)) })
	return ctx, w
}

func (w *watch) moved() { w.t.Reset(w.idle) }

func (w *watch) stop() {
	w.t.Stop()
	w.cancel(nil)
}

type watchedBody struct {
	io.ReadCloser
	w *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.moved()
	return n, err
}

// watchedReply ends the watch when the answer has been read.
type watchedReply struct{ watchedBody }

func (b *watchedReply) Close() error {
	err := b.ReadCloser.Close()
	b.w.stop()
	return err
}
