// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {IWholeBlockOTA} from "./Forge.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title What no call whatever can do to FirmwareReplication
/// @notice As in CheckBlockOTA: every sender, function and argument, from every content of both contracts' storage that
/// fulfils what the check assumes.
contract CheckFirmwareReplication is HalmosCheck {
    /// @dev Of an agreement's first word: broker and expiry, and above them the status.
    uint256 private constant TERMS = (1 << 200) - 1;

    IWholeBlockOTA private _record;
    address private _replication;

    function setUp() external {
        address record = _deploy(".build/forge/halmos/BlockOTA.sol/BlockOTA.json", address(0x5AFE));
        _record = IWholeBlockOTA(record);
        _replication = _deploy(".build/forge/halmos/FirmwareReplication.sol/FirmwareReplication.json", record);
        svm.enableSymbolicStorage(record);
        svm.enableSymbolicStorage(_replication);
    }

    function check_R1_termsNeverChange(address sender, uint64 id) external {
        vm.assume(_known(id));
        (bytes32 first, bytes32 product, bytes32 third) = _words(id);
        _callReplication(_replication, sender);
        (bytes32 laterFirst, bytes32 laterProduct, bytes32 laterThird) = _words(id);
        assert(uint256(first ^ laterFirst) & TERMS == 0);
        assert(product == laterProduct);
        assert(uint64(uint256(third)) == uint64(uint256(laterThird)));
    }

    function check_R1_theStatusFollowsTheArrows(address sender, uint64 id) external {
        vm.assume(_known(id));
        IFirmwareReplication.Status before = _status(id);
        _callReplication(_replication, sender);
        IFirmwareReplication.Status later = _status(id);
        assert(before == later || _isArrow(before, later));
    }

    function check_R2_onlyTheVendorDecides(address sender, uint64 id) external {
        vm.assume(_known(id) && sender != _record.owner());
        IFirmwareReplication.Status before = _status(id);
        _callReplication(_replication, sender);
        IFirmwareReplication.Status later = _status(id);
        assert(before == later || later == IFirmwareReplication.Status.Withdrawn);
    }

    function check_R2_onlyTheBrokerAnnouncesOrWithdraws(address sender, uint64 id) external {
        (bytes32 first, , ) = _words(id);
        vm.assume(_known(id) && sender != address(uint160(uint256(first))));
        (IFirmwareReplication.Status before, bytes32 uri) = (_status(id), _entryWord(_replication, id, 3));
        _callReplication(_replication, sender);
        assert(_entryWord(_replication, id, 3) == uri);
        assert(before == _status(id) || _status(id) != IFirmwareReplication.Status.Withdrawn);
    }

    function check_R3_anOpenAgreementIsItsBrokersNewest(address sender, uint64 id) external {
        uint64 count = IFirmwareReplication(_replication).agreementCount();
        vm.assume(id != 0 && count < type(uint64).max && id <= count + 1);
        vm.assume(id <= count ? _known(id) : _entryWord(_replication, id, 0) == 0);
        vm.assume(!_isOpen(id) || _newestLike(id) == id);
        _callReplication(_replication, sender);
        assert(!_isOpen(id) || _newestLike(id) == id);
    }

    function check_R3_theNewestOfABrokerIsItsOwn(
        address sender,
        bytes32 product,
        uint64 version,
        address broker
    ) external {
        vm.assume(IFirmwareReplication(_replication).agreementCount() < type(uint64).max);
        vm.assume(_isOwn(product, version, broker));
        _callReplication(_replication, sender);
        assert(_isOwn(product, version, broker));
    }

    function check_R6_idsOnlyGrowByOne(address sender) external {
        uint64 before = IFirmwareReplication(_replication).agreementCount();
        vm.assume(before < type(uint64).max && _entryWord(_replication, 0, 0) == 0);
        _callReplication(_replication, sender);
        uint64 later = IFirmwareReplication(_replication).agreementCount();
        assert(later == before || later == before + 1);
        assert(_entryWord(_replication, 0, 0) == 0);
    }

    /// @dev It was proposed; nothing beyond the count ever was.
    function _known(uint64 id) private view returns (bool) {
        (bytes32 first, , ) = _words(id);
        uint256 status = uint8(uint256(first) >> 200);
        return status != 0 && status <= 5 && id <= IFirmwareReplication(_replication).agreementCount();
    }

    function _isOpen(uint64 id) private view returns (bool) {
        IFirmwareReplication.Status status = _status(id);
        return status == IFirmwareReplication.Status.Proposed || status == IFirmwareReplication.Status.Accepted;
    }

    /// @dev The newest agreement of the same broker on the same release.
    function _newestLike(uint64 id) private view returns (uint64) {
        (bytes32 first, bytes32 product, bytes32 third) = _words(id);
        return _newest(_replication, product, uint64(uint256(third)), address(uint160(uint256(first))));
    }

    function _isOwn(bytes32 product, uint64 version, address broker) private view returns (bool) {
        uint64 id = _newest(_replication, product, version, broker);
        if (id == 0) return true;
        (bytes32 first, bytes32 itsProduct, bytes32 third) = _words(id);
        bool sameRelease = itsProduct == product && uint64(uint256(third)) == version;
        return sameRelease && address(uint160(uint256(first))) == broker && _known(id);
    }

    function _words(uint64 id) private view returns (bytes32 first, bytes32 product, bytes32 third) {
        first = _entryWord(_replication, id, 0);
        product = _entryWord(_replication, id, 1);
        third = _entryWord(_replication, id, 2);
    }

    function _status(uint64 id) private view returns (IFirmwareReplication.Status) {
        (bytes32 first, , ) = _words(id);
        return IFirmwareReplication.Status(uint8(uint256(first) >> 200));
    }

    function _isArrow(
        IFirmwareReplication.Status one,
        IFirmwareReplication.Status two
    ) private pure returns (bool) {
        if (one == IFirmwareReplication.Status.Proposed) {
            return two != IFirmwareReplication.Status.None && two != IFirmwareReplication.Status.Terminated;
        }
        bool ended = two == IFirmwareReplication.Status.Withdrawn || two == IFirmwareReplication.Status.Terminated;
        return one == IFirmwareReplication.Status.Accepted && ended;
    }
}
