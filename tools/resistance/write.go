package main

func (o *options) write() error { return nil }
