// Package jobs runs commands as jobs: on a Ray cluster through its Jobs REST API,
// or on Slurm through its commands. It is no scheduler: where and when a job runs
// is the cluster's business; here jobs are handed over, watched, retried when they
// are lost, and cancelled.
//
// A job is one command and one result file. The command writes the file under
// another name and renames it when it has finished: the job is done if and only
// if the file exists and is not empty, whatever a scheduler says of it. So a run
// that was interrupted in any way (Ctrl-C, a crash of this program, a lost head
// node, a full disk) goes on when the same call is made again with the same
// folder: what is done is kept, what still runs is found again and waited for,
// the rest is started. A job that runs twice after all, because a node could not
// be reached and came back, does no harm, since renaming is atomic.
//
// # How a job that still runs is found again
//
// Every run folder has a random identity. On Ray the submission id is
// neuroseal-IDENTITY-DIGEST-TRY, with a digest of all that decides what the job
// does. On Slurm an array is named neuroseal-IDENTITY-RANDOM, and the folder
// slurm/RANDOM, complete before sbatch is called, says which job each index is.
//
// # What is retried
//
// A job is lost, and tried again Options.Retries times, if its node died, if it
// was killed by SIGKILL or SIGTERM that we did not send, if the cluster forgot
// it, or if it was preempted. It has failed, and is not tried again, if its
// command ended with a status of its own, ran over its limit or its memory, left
// no result, or if the cluster refuses it. If somebody else stops it on the
// cluster it is cancelled. When the cluster does not answer, is overloaded, or
// its queue is full, it is asked again at growing intervals for
// Options.Patience; then Run returns an error, and jobs that run go on.
//
// # Arguments
//
// Nothing is ever spliced into a shell line unquoted. Ray and Slurm run shell
// scripts; arguments, variables and folders stand in them between single quotes,
// with which a POSIX shell takes every byte but NUL for itself. Options of
// sbatch reach it without a shell. Ray carries UTF-8 only and replaces $NAME in
// a job's variables: variables with a dollar sign are set by the script instead.
//
// # Limits
//
// Ray has no limit of running time: Job.Limit is kept from here, from the moment
// at which the job is seen to run, and not while this program is away. Slurm's
// limits are whole minutes, rounded up. Where Ray's nodes share no files, a job's
// log must be UTF-8, because Ray serves no other, and the log with the result (in
// base64) must be at most 256 MB. Slurm without accounts (slurmdbd) forgets a
// task some minutes after its end; a note that the batch script leaves says then
// how it ended.
//
// # Measured
//
// The tests with the build tag interop ran against Ray 2.60.0 (one head; a head
// and a worker node; with and without token authentication) and Slurm 22.05.8
// (slurmctld, slurmd, munged, no accounts) on one machine of two cores: three
// jobs with hostile arguments in a hostile folder; failing jobs; cancelling; a
// killed job process; a limit (Ray); this program killed during a run; on Ray a
// head that is killed and replaced, a head that stays away beyond the patience, a
// killed worker node, files shared and not, a log that is not text; on Slurm a
// node set down, a controller killed and restarted with and without its state,
// an impossible request, a foreign scancel, and throttling. On an idle machine
// Slurm's scenarios take 54 s and Ray's 200 s, of which Ray's own processes need
// about 10 s for each start; a job takes Ray 1 to 4 s to start, Slurm about 1 s.
//
// What these runs taught, beyond the documentation: Ray signals only the
// processes that exist at one moment when it stops a job, so a shell must pass
// the signal on; it calls a job stopped up to some seconds before its processes
// are gone; it writes the command into the job's log, so that a marker must not
// stand in it literally; Slurm replaces % in the whole path of an output file;
// where nobody has configured the nodes' memory it refuses every job that states
// how much it needs, which is therefore not stated there (see memoryKnown);
// and a controller that is killed within seconds of starting a job may hold it
// for running for ever, so the script's note counts more than the queue.
package jobs
