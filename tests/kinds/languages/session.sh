# The session's kind in shell, mode: once: it does what `demo_sleep_worker` does with the same payload.
case $(cat) in
*'"then":"error"'*) echo 'Oops!'; exit 1 ;;
*'"then":"dead"'*) echo 'asked to'; exit 65 ;;
*'"then":"retry_once"'*) test "$ASYNCTASK_ATTEMPT" = 1 && exit 75 ;;
*'"then":"abort"'*) kill -ABRT $$ ;;
*'"then":"segfault"'*) kill -SEGV $$ ;;
*'"then":"hang"'*) exec sleep 100000 ;;
esac
echo SESSION did it
