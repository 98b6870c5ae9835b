package main

type page []*study

func (page) write(string) error { return nil }
